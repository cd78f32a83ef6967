//! A schema fuzzer against a panel that is served: what it sends follows the document, or breaks it on purpose, and every answer is
//! held against the document. `images/prepare unit` installs it.

use std::path::Path;

use panel::noun::{Device, Place, Tunnel};
use serde_json::json;
use tokio::process::Command;

use super::{ALL, Program};
use crate::rig::{Rig, device, school};

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_fuzzer_finds_nothing() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    for number in 10..20 {
        rig.make::<Device>(school.at(), device(number));
    }
    rig.make::<Tunnel>(
        Place::Panel,
        json!({ "name": "relay", "host": "relay.example", "port": 22 }),
    );
    rig.user(school.home(), "vera", "member", Some("viewer"));
    rig.user(school.home(), "olga", "organization-admin", None);
    let ada = rig.user(Place::Panel, "ada", "superadmin", None);
    let program = Program::of(&rig, ada, ALL);
    let root = rig.folder.path().join("root.pem");
    rig.data.write("root.pem", rig.app.ca().root().pem().as_bytes()).unwrap();
    let root = root.parent().unwrap().join("panel/root.pem");

    let web = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fuzzer = web.join("../target/schemathesis/bin/schemathesis");
    assert!(fuzzer.exists(), "there is no {}: images/prepare unit installs it", fuzzer.display());
    #[expect(
        clippy::disallowed_methods,
        reason = "the fuzzer is a program, and no part of the product"
    )]
    let mut run = Command::new(fuzzer);
    run.arg("--config-file")
        .arg(web.join("tests/schemathesis.toml"))
        .arg("run")
        .arg(format!("https://{}/api/v1/openapi.json", rig.address))
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", program.token))
        .arg("--tls-verify")
        .arg(root)
        .current_dir(rig.folder.path())
        .kill_on_drop(true);
    if std::env::var_os("HOLD").is_some() {
        println!("{:?}", run.as_std());
        tokio::time::sleep(std::time::Duration::from_secs(1500)).await;
    }
    let done = run.output().await.unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{told}\n{}", String::from_utf8_lossy(&done.stderr));
    println!("{told}");
}
