//! Restoring by restoring: the panel's own process, from the first start's form to a sign-in with the password of before.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::http::{Method, StatusCode};
use clusterducks_panel::run;
use panel::{
    ca::{Certificate, Host},
    noun::{Device, Id, Network, Organization, Place, Server, Volume},
    operations::Panel,
    password::Passwords,
    secret::ExposeSecret as _,
    store::{Document, ListQuery, Store},
};
use serde_json::{Value, json};

use crate::{
    agent::free_port,
    fleet::{NewBox, code, seen},
    rig::{Answer, Browser, ROOT, Rig, device, school, trusting},
};

const PASSWORD: &str = "quiet-otter-mends-lanterns";
const PASS_PHRASE: &str = "nine lanterns for otters";
const PATIENCE: Duration = Duration::from_secs(20);

fn program(data: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the test starts and ends a panel")]
    let mut program = Command::new(env!("CARGO_BIN_EXE_clusterducks-panel"));
    program.arg("--data").arg(data).env("RUST_LOG", "info");
    program
}

/// The panel's process; it dies with the test.
struct Served {
    child: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
    /// The code of the first start, where nobody signed up.
    code: Option<String>,
}

impl Served {
    fn start(data: &Path, agents_port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut child = program(data)
            .args(["serve", "--host", "127.0.0.1", "--listen", &address.to_string()])
            .args(["--agents-port", &agents_port.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut served = Self { child, log, address, code: None };
        loop {
            let line = served.line().expect("the panel ended before it served");
            if let Some(code) = line["code"].as_str() {
                served.code = Some(code.to_owned());
            }
            if line["message"] == "the console is served" {
                return served;
            }
        }
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.log.read_line(&mut line).unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    fn browser(&self, root: &Certificate) -> Browser {
        Browser::new(Ipv4Addr::LOCALHOST, self.address, trusting(root))
    }

    /// Waits until it ended by itself.
    fn ended(mut self) {
        while self.line().is_some() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Makes the data of a panel that nobody signed up at; its root.
fn new_panel(data: &Path) -> Certificate {
    let hosts = [Host::try_from("127.0.0.1").unwrap().to_owned()];
    run::open(data, &hosts).unwrap().app.ca().root().clone()
}

/// Sends the form of the restore, as a browser does.
async fn restore(browser: &mut Browser, code: &str, pass_phrase: &str, file: &[u8]) -> Answer {
    let mut body = Vec::new();
    for (name, value) in [("code", code), ("pass_phrase", pass_phrase)] {
        write!(
            body,
            "--otter\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
        .unwrap();
    }
    body.extend(
        b"--otter\r\ncontent-disposition: form-data; name=\"file\"; filename=\"b.age\"\r\n\r\n",
    );
    body.extend(file);
    body.extend(b"\r\n--otter--\r\n");
    let headers = [
        ("content-type", "multipart/form-data; boundary=otter"),
        ("sec-fetch-site", "same-origin"),
    ];
    browser.send_bytes(Method::POST, "/first-start/restore", &headers, body.into()).await
}

/// Somebody who may do all, with a password.
fn with_password(rig: &Rig) {
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let hash = Passwords::new().unwrap().hash(&PASSWORD.into()).unwrap();
    rig.panel().set_password(ROOT, user, hash.expose_secret()).unwrap();
}

async fn sign_in(browser: &mut Browser) {
    let fields = [("name", "ada"), ("password", PASSWORD), ("next", "/")];
    assert_eq!(browser.post("/sign-in", &fields).await.to(), "/");
    browser.get("/account").await.page();
}

/// The backup, as the settings page gives it.
async fn backup(browser: &mut Browser) -> Vec<u8> {
    let made = browser
        .post("/settings/backup", &[("pass_phrase", PASS_PHRASE), ("again", PASS_PHRASE)])
        .await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    made.bytes.to_vec()
}

/// The records of a panel that is not this process's.
fn at(data: &Path) -> Panel {
    Panel::new(Store::open(&data.join("panel.db")).unwrap(), Arc::new(|| 1))
}

fn records(panel: &Panel) -> Value {
    let query = ListQuery::default();
    json!({
        "organizations": panel.list::<Organization>(ROOT, &query).unwrap().rows,
        "networks": panel.list::<Network>(ROOT, &query).unwrap().rows,
        "servers": panel.list::<Server>(ROOT, &query).unwrap().rows,
        "volumes": panel.list::<Volume>(ROOT, &query).unwrap().rows,
        "devices": panel.list::<Device>(ROOT, &query).unwrap().rows,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_panel_takes_a_backup_by_its_form_and_is_the_panel_of_before() {
    let rig = Rig::new().await;
    let school = school(&rig, "Riverside School");
    rig.make::<Device>(school.at(), device(10));
    with_password(&rig);
    let mut before = rig.browser();
    sign_in(&mut before).await;
    let file = backup(&mut before).await;

    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("panel");
    let own = new_panel(&data);
    let served = Served::start(&data, free_port());
    let mut browser = served.browser(&own);
    assert!(browser.get("/first-start").await.page().contains("href=\"/first-start/restore\""));
    assert!(browser.get("/first-start/restore").await.page().contains("Pass phrase of the backup"));
    let code = served.code.clone().unwrap();
    let cut = &file[..file.len() - 100];
    let refused: [(&str, &str, &[u8], &str, &str); 4] = [
        ("AAAAA-AAAAA", PASS_PHRASE, &file, "code", "not the code that the panel shows"),
        (&code, "another pass phrase", &file, "pass_phrase", "does not open this backup"),
        (&code, PASS_PHRASE, b"%PDF-1.7", "file", "this is not a backup, or not the whole of it"),
        (&code, PASS_PHRASE, cut, "file", "the backup is damaged or cut off"),
    ];
    for (code, pass_phrase, file, field, says) in refused {
        let answer = restore(&mut browser, code, pass_phrase, file).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{says}");
        let below = answer.after(&format!("<small id=\"{field}-help\"><span class=\"fault\">"));
        assert!(below.ends_with(says), "{below}");
        assert!(!answer.has(pass_phrase), "a pass phrase never comes back");
        let left: Vec<_> =
            fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_str().unwrap().starts_with("restore")), "{left:?}");
    }
    assert_eq!(browser.get("/").await.to(), "/first-start", "it is as new as before");

    let done = restore(&mut browser, &code, PASS_PHRASE, &file).await;
    let root = rig.app.ca().root().clone();
    assert!(done.page().contains(&root.fingerprint().with_colons()), "{}", done.body);
    served.ended();

    let served = Served::start(&data, free_port());
    assert_eq!(served.code, None, "somebody signed up there");
    let mut browser = served.browser(&root);
    browser.cookies.clone_from(&before.cookies);
    assert_eq!(browser.get("/account").await.to(), "/sign-in?next=%2Faccount", "sessions ended");
    browser.cookies.clear();
    sign_in(&mut browser).await;
    assert!(browser.get("/networks").await.page().contains("north"));
    assert!(browser.get("/audit").await.page().contains("restored_from_backup_of"));
    assert_eq!(records(&at(&data)), records(rig.panel()));
    let pem = browser.get("/certificates/root.pem").await;
    assert_eq!(pem.page(), root.pem());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_ahead_of_the_backup_takes_the_next_document_of_the_restored_panel() {
    let rig = Rig::new().await;
    let port = free_port();
    let link = rig.link(port);
    let home = rig.make::<Organization>(Place::Panel, json!({ "name": "School" }));
    let network = rig.make::<Network>(Place::Organization(home), json!({ "name": "north" }));
    with_password(&rig);
    let mut browser = rig.browser();
    sign_in(&mut browser).await;
    let code = code(&mut browser, network, false).await;
    let address = Ipv4Addr::new(127, 0, 79, 1);
    let mut newcomer = NewBox::new(&rig, address);
    let joined = newcomer.joined(&code).await;
    let agent = newcomer.start(&rig, &joined, (address, port).into());
    let server: Id<Server> = Id::new(i64::try_from(joined.server).unwrap());
    let page = format!("/servers/{server}");
    seen(&mut browser, &page, &["data-state=\"connected\""]).await;
    let mut stored = rig.panel().get::<Server>(ROOT, server).unwrap();
    let pools = json!([{ "name": "tank", "disks": [{ "serial": "SIM-0" }] }]);
    stored.value.pools = serde_json::from_value(pools).unwrap();
    rig.panel().change(ROOT, server, stored.version, stored.value).unwrap();
    rig.app.changed();
    let before = applied(rig.panel(), server, "tank", 0).await;
    let file = backup(&mut browser).await;
    for volume in ["one", "two", "three"] {
        let value = json!({ "name": volume, "pool": "tank", "size_bytes": 1 << 30 });
        rig.make::<Volume>(Place::Network(network), value);
        applied(rig.panel(), server, volume, 0).await;
    }
    let ahead = rig.panel().document(ROOT, server).unwrap().unwrap().generation;
    assert!(ahead >= before.generation + 3, "{ahead} and {}", before.generation);
    // That box breaks; the agent goes on with what it was told last.
    let root = rig.app.ca().root().clone();
    link.abort();
    assert!(link.await.unwrap_err().is_cancelled());

    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("panel");
    let backup = place.path().join("backup.age");
    fs::File::create(&backup).unwrap().write_all(&file).unwrap();
    let restored = by_command(&data, &backup, &[]);
    assert!(restored.status.success(), "{restored:?}");
    let served = Served::start(&data, port);
    let panel = at(&data);
    let back = applied(&panel, server, "tank", ahead).await;
    assert!(!back.body.contains("\"three\""), "{}", back.body);
    // And it does what is saved from now on.
    let mut browser = served.browser(&root);
    sign_in(&mut browser).await;
    let fields = [("name", "four"), ("pool", "tank"), ("size_bytes", "1 GiB")];
    browser.post(&format!("/networks/{network}/volumes/new"), &fields).await.to();
    applied(&panel, server, "four", back.generation).await;
    drop((agent, served));
}

/// Waits until a server's document that says this, and has a higher number, is in force, and the server is as it says.
async fn applied(panel: &Panel, server: Id<Server>, says: &str, above: u64) -> Document {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let document = panel.document(ROOT, server).unwrap();
            let current = |document: &Document| {
                let status = document.status.as_ref();
                document.generation > above
                    && document.body.contains(&format!("\"{says}\""))
                    && document.applied == document.generation
                    && status.is_some_and(|status| status.generation == document.generation)
            };
            if let Some(document) = document.filter(current) {
                return document;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| {
        panic!("{says:?} is not applied: {:?}", panel.document(ROOT, server).unwrap())
    })
}

/// Restores on the box.
fn by_command(data: &Path, file: &Path, more: &[&str]) -> Output {
    let mut child = program(data)
        .arg("restore")
        .arg(file)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have refused before it asked.
    let _told = writeln!(child.stdin.take().unwrap(), "{PASS_PHRASE}");
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_on_the_box_where_no_panel_runs_and_nobody_s_accounts_are_lost() {
    let rig = Rig::new().await;
    school(&rig, "Riverside School");
    with_password(&rig);
    let mut browser = rig.browser();
    sign_in(&mut browser).await;
    let place = tempfile::tempdir().unwrap();
    let (data, file) = (place.path().join("panel"), place.path().join("backup.age"));
    fs::File::create(&file).unwrap().write_all(&backup(&mut browser).await).unwrap();
    new_panel(&data);
    let says = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();

    let served = Served::start(&data, free_port());
    let refused = by_command(&data, &file, &["--replace"]);
    assert!(!refused.status.success() && says(&refused).contains("stop it first"), "{refused:?}");
    drop(served);
    let done = by_command(&data, &file, &[]);
    assert!(done.status.success(), "{done:?}");
    let told = String::from_utf8(done.stdout).unwrap();
    assert!(told.contains(&rig.app.ca().root().fingerprint().with_colons()), "{told}");
    assert_eq!(records(&at(&data)), records(rig.panel()));

    let later = serde_json::from_value::<Organization>(json!({ "name": "Later" })).unwrap();
    at(&data).create(ROOT, Place::Panel, later).unwrap();
    let refused = by_command(&data, &file, &[]);
    assert!(!refused.status.success() && says(&refused).contains("--replace"), "{refused:?}");
    let done = by_command(&data, &file, &["--replace"]);
    let told = String::from_utf8(done.stdout).unwrap();
    let kept = told.lines().last().unwrap().rsplit_once(" lies in ").unwrap().1;
    let has_later = |data: &Path| records(&at(data)).to_string().contains("Later");
    assert!(has_later(Path::new(kept)) && !has_later(&data), "{told}");
}
