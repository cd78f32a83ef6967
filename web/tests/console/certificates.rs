//! Certificates that are looked at and taken back, and whoever still shows one.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use axum::http::{StatusCode, header};
use panel::{
    ca::{Kind, RevocationList, Role},
    fleet::State,
    noun::{Id, Place, Server},
    store::{Booked, BookedQuery},
};
use tokio::time::{Instant, timeout};

use crate::{
    agent::free_port,
    fleet::{NewBox, code, seen},
    rig::{ROOT, Rig, school},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Long before the next answer of a quiet agent would have been missed.
const AT_ONCE: Duration = Duration::from_secs(5);

fn given(rig: &Rig, kind: Kind) -> Vec<Booked> {
    let query = BookedQuery { kind: Some(kind), ..BookedQuery::default() };
    rig.panel().issued(ROOT, &query).unwrap().rows
}

/// Waits until a server's connection is in this state.
async fn connection(rig: &Rig, server: Id<Server>, state: State) {
    let mut sights = rig.panel().sights();
    let reached = timeout(PATIENCE, async {
        while rig.panel().connection(ROOT, server).unwrap().is_none_or(|c| c.state != state) {
            sights.changed().await.unwrap();
        }
    });
    assert!(reached.await.is_ok(), "not {state:?} within {PATIENCE:?}");
}

/// What openssl(1) says of a certificate, by the root and the list that the console gives to everybody.
fn verified(rig: &Rig, files: [(&str, &str); 4]) -> (bool, String) {
    for (name, content) in files {
        rig.data.write(name, content.as_bytes()).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the test asks openssl what it thinks")]
    let asked = Command::new("openssl")
        .args(["verify", "-x509_strict", "-crl_check_all", "-CAfile", "root.pem"])
        .args(["-untrusted", "chain.pem", "-CRLfile", "crl.pem", "leaf.pem"])
        .current_dir(rig.data.path("."))
        .output()
        .unwrap();
    let said = [asked.stdout, asked.stderr].concat();
    (asked.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_is_taken_back_is_cut_off_at_once() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let port = free_port();
    let _link = rig.link(port);
    let admin = rig.user(school.home(), "anna", "member", Some("admin"));
    let viewer = rig.user(school.home(), "vera", "member", Some("viewer"));
    let (mut browser, mut other) = (rig.seat(admin).await, rig.seat(viewer).await);
    let code = code(&mut browser, school.network, false).await;
    let address = Ipv4Addr::new(127, 0, 78, 2);
    let mut newcomer = NewBox::new(&rig, address);
    let joined = newcomer.joined(&code).await;
    let _agent = newcomer.start(&rig, &joined, (address, port).into());
    let server = Id::new(i64::try_from(joined.server).unwrap());
    connection(&rig, server, State::Connected).await;

    let listed = browser.get("/certificates?kind=agent&state=good").await;
    let page = format!("/certificates/issued/{}", listed.after("<a href=\"/certificates/issued/"));
    assert!(listed.has("newcomer") && !listed.has("panel to its servers"), "{}", listed.body);
    let chain = joined.api_chain_pem.as_str();
    let root = rig.browser().get("/certificates/root.pem").await.page().to_owned();
    let list = async || rig.browser().get("/crl.pem").await.page().to_owned();
    let before = list().await;
    let files = |list| {
        [("root.pem", root.as_str()), ("chain.pem", chain), ("leaf.pem", chain), ("crl.pem", list)]
    };
    let (good, said) = verified(&rig, files(before.as_str()));
    assert!(good, "{said}");

    assert!(!other.get(&page).await.page().contains("Take it back"));
    let fields = [("name", "newcomer"), ("reason", "key-compromise")];
    let revoke = format!("{page}/revoke");
    assert_eq!(other.post(&revoke, &fields).await.status, StatusCode::FORBIDDEN);
    browser.get(&page).await.page();
    for wrong in
        [[("name", "agent-1"), ("reason", "removed")], [("name", "newcomer"), ("reason", "x")]]
    {
        assert_eq!(browser.post(&revoke, &wrong).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let began = Instant::now();
    assert_eq!(browser.post(&revoke, &fields).await.to(), page);
    connection(&rig, server, State::Lost).await;
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(browser.get(&page).await.page().contains("key-compromise"));
    seen(&mut browser, &format!("/servers/{server}"), &["Let it join again by a new code"]).await;

    let revoked = given(&rig, Kind::Agent)[0].serial;
    let after = timeout(PATIENCE, async {
        loop {
            let held = rig.panel().revocation_list(Role::Issuing).unwrap();
            if held.serials().contains(&revoked) {
                return list().await;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let after = after.await.unwrap();
    let (good, said) = verified(&rig, files(after.as_str()));
    assert!(!good && said.contains("certificate revoked"), "{said}");
    for path in ["/crl.der", "/root-crl.der", "/boot-crl.der"] {
        let der = rig.browser().get(path).await;
        assert_eq!(der.headers[header::CONTENT_TYPE], "application/pkix-crl", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_makes_itself_another_certificate_when_its_own_is_taken_back() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let port = free_port();
    let _link = rig.link(port);
    let root = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(root).await;
    let code = code(&mut browser, school.network, false).await;
    let address = Ipv4Addr::new(127, 0, 78, 3);
    let mut newcomer = NewBox::new(&rig, address);
    let joined = newcomer.joined(&code).await;
    let _agent = newcomer.start(&rig, &joined, (address, port).into());
    let server = Id::new(i64::try_from(joined.server).unwrap());
    connection(&rig, server, State::Connected).await;
    let own = given(&rig, Kind::Fleet).remove(0).serial;
    let page = format!("/certificates/issued/{own}");
    browser.get(&page).await.page();
    let fields = [("name", "fleet"), ("reason", "key-compromise")];
    assert_eq!(browser.post(&format!("{page}/revoke"), &fields).await.to(), page);

    // It tells the server with the new one that the old one counts no more.
    let told = timeout(PATIENCE, async {
        loop {
            let document = rig.panel().document(ROOT, server).unwrap().unwrap();
            let told: serde_json::Value = serde_json::from_str(&document.body).unwrap();
            let pem = told["revocation_list_pem"].as_str().unwrap_or_default().to_owned();
            let held = rig.panel().revocation_list(Role::Issuing).unwrap();
            let of_root = rig.panel().revocation_list(Role::Root).unwrap();
            if held.serials().contains(&own)
                && pem == held.pem() + &of_root.pem()
                && document.acknowledged == document.generation
            {
                return held;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let held = told.await.unwrap();
    assert_eq!(given(&rig, Kind::Fleet).len(), 2);
    let der = rig.data.read("issuing.crl").unwrap().unwrap();
    assert_eq!(RevocationList::parse(der).unwrap(), *held, "it is kept for the next start");
}
