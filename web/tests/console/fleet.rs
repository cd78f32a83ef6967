//! Agents that join through the console's own listener, and what the console shows of them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use axum::http::{Method, StatusCode, header};
use model::{
    code::{JoinCode, JoinSecret},
    join::{
        Answer, Fact, Hardware, HardwareDisk, HardwareLink, Joined, MOST_BYTES, PATH, Problem,
        Request,
    },
};
use panel::{
    noun::{Id, Network, Organization, Place, Server},
    store::ListQuery,
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use crate::{
    agent::{Agent, free_port},
    rig::{Browser, ROOT, Rig, school},
};

const PATIENCE: Duration = Duration::from_secs(20);
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A box as it comes from the factory.
pub(crate) struct NewBox {
    key: KeyPair,
    browser: Browser,
}

impl NewBox {
    pub(crate) fn new(rig: &Rig, address: Ipv4Addr) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { key, browser: rig.browser_at(address) }
    }

    /// Asks to join.
    pub(crate) async fn ask(&mut self, code: &JoinCode) -> Result<Answer, Problem> {
        let asked = CertificateParams::default().serialize_request(&self.key).unwrap();
        let request = Request {
            secret: JoinSecret::new(*code.secret.bytes()),
            name: Some("newcomer".parse().unwrap()),
            certificate_request_pem: asked.pem().unwrap(),
            boot_request_pem: None,
            ssh_key: None,
            hardware: Hardware {
                product: Fact::clip("Box <b>9000</b>"),
                links: vec![HardwareLink {
                    name: Fact::clip("eth0"),
                    mac: "52:54:00:00:00:01".parse().unwrap(),
                }],
                disks: vec![HardwareDisk {
                    model: Fact::clip("Disk"),
                    serial: Fact::clip("D-1"),
                    size_bytes: 1 << 40,
                }],
                ..Hardware::default()
            },
        };
        let body = serde_json::to_string(&request).unwrap();
        let answer = self.browser.send(Method::POST, PATH, &JSON, body).await;
        let kind = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
        if !answer.status.is_success() {
            assert_eq!(kind, "application/problem+json");
            let throttled = answer.status == StatusCode::TOO_MANY_REQUESTS;
            assert_eq!(answer.headers.contains_key(header::RETRY_AFTER), throttled);
            return Err(serde_json::from_str(&answer.body).unwrap());
        }
        assert_eq!(kind, "application/json");
        let read = serde_json::from_str(&answer.body).unwrap();
        let waits = matches!(read, Answer::Waiting { .. });
        assert_eq!(answer.status == StatusCode::ACCEPTED, waits, "{}", answer.status);
        Ok(read)
    }

    pub(crate) async fn joined(&mut self, code: &JoinCode) -> Joined {
        match self.ask(code).await.unwrap() {
            Answer::Joined(joined) => *joined,
            Answer::Waiting { .. } => panic!("nobody is to confirm it"),
        }
    }

    pub(crate) fn start(&self, rig: &Rig, joined: &Joined, api: SocketAddr) -> Agent {
        let folder: PathBuf = rig.folder.path().join(format!("box-{}", joined.server));
        Agent::start(folder, joined, &self.key.serialize_pem(), api)
    }
}

/// A code that somebody makes in the console.
pub(crate) async fn code(browser: &mut Browser, network: Id<Network>, confirm: bool) -> JoinCode {
    let path = format!("/networks/{network}/servers/join");
    browser.get(&path).await.page();
    let mut fields = vec![("host", "panel.local"), ("hours", "1"), ("server", "")];
    fields.extend(confirm.then_some(("confirm", "on")));
    let made = browser.post(&path, &fields).await;
    JoinCode::parse(&made.after("<p class=\"secret\"><code>")).unwrap()
}

/// Looks at a page until it has all of this.
pub(crate) async fn seen(browser: &mut Browser, path: &str, texts: &[&str]) {
    let mut last = String::new();
    let looked = tokio::time::timeout(PATIENCE, async {
        loop {
            last = browser.get(path).await.page().to_owned();
            if texts.iter().all(|text| last.contains(text)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let found = looked.await;
    assert!(found.is_ok(), "{texts:?} are not on {path} within {PATIENCE:?}: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_joins_by_a_code_of_the_console_and_does_what_is_saved_there() {
    let rig = Rig::new().await;
    let port = free_port();
    let link = rig.link(port);
    let home = rig.make::<Organization>(Place::Panel, json!({ "name": "School" }));
    let network = rig.make::<Network>(Place::Organization(home), json!({ "name": "north" }));
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let code = code(&mut browser, network, false).await;
    let address = Ipv4Addr::new(127, 0, 78, 1);
    let mut newcomer = NewBox::new(&rig, address);
    let joined = newcomer.joined(&code).await;
    assert_eq!(joined.root_pem, rig.app.ca().root().pem());
    let agent = newcomer.start(&rig, &joined, (address, port).into());
    let page = format!("/servers/{}", joined.server);
    seen(&mut browser, &page, &["newcomer", "data-state=\"connected\"", "127.0.78.1"]).await;

    let form = browser.get(&format!("{page}/edit")).await;
    let version = form.after("name=\"version\" value=\"");
    let fields = [
        ("version", version.as_str()),
        ("name", "newcomer"),
        ("role", "both"),
        ("pools[0].name", "tank"),
        ("pools[0].layout", "stripe"),
        ("pools[0].disks", "SIM-0"),
    ];
    browser.post(&format!("{page}/edit"), &fields).await.to();
    let volume = [("name", "debian"), ("pool", "tank"), ("size_bytes", "8 GiB")];
    browser.post(&format!("/networks/{network}/volumes/new"), &volume).await.to();
    let id: Id<Server> = Id::new(i64::try_from(joined.server).unwrap());
    let applied = tokio::time::timeout(PATIENCE, async {
        loop {
            let document = rig.panel().document(ROOT, id).unwrap().unwrap();
            if document.body.contains("debian") && document.applied == document.generation {
                return document;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let number = applied.await.unwrap().generation;
    let says = format!("taken {number}, applied {number}");
    let done = format!("document {number} is applied");
    let nothing = "Nothing: it is as its document wants it.";
    seen(&mut browser, &page, &["data-state=\"ready\"", &says, "tank", &done, nothing]).await;

    let mut watched = rig.app.changes();
    watched.mark_unchanged();
    drop(agent);
    tokio::time::timeout(PATIENCE, watched.changed()).await.unwrap().unwrap();
    let advice = "Nothing answers at its addresses";
    let past = "what stands here is how it was";
    seen(&mut browser, &page, &["data-state=\"lost\"", "data-state=\"silent\"", advice, past])
        .await;
    let list = format!("/networks/{network}/servers");
    seen(&mut browser, &list, &["data-state=\"silent\""]).await;
    drop(rig);
    tokio::time::timeout(PATIENCE, link).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_box_is_looked_at_and_let_in_or_sent_away() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let admin = rig.user(school.home(), "anna", "member", Some("admin"));
    let viewer = rig.user(school.home(), "vera", "member", Some("viewer"));
    let (mut browser, mut other) = (rig.seat(admin).await, rig.seat(viewer).await);
    assert!(browser.get("/joins").await.page().contains("No box waits"));
    let first = code(&mut browser, school.network, true).await;
    let mut newcomer = NewBox::new(&rig, Ipv4Addr::LOCALHOST);
    assert!(matches!(newcomer.ask(&first).await.unwrap(), Answer::Waiting { .. }));
    for path in ["/", &format!("/networks/{}/servers", school.network)] {
        assert!(browser.get(path).await.page().contains("1 box waits"), "{path}");
    }
    let listed = browser.get("/joins").await;
    let page = format!("/joins/{}", listed.after("<a href=\"/joins/"));
    let shown = browser.get(&page).await;
    for text in
        ["Box &#60;b&#62;9000", "52:54:00:00:00:01", "D-1", "1 TiB", "127.0.0.1", "newcomer"]
    {
        assert!(shown.page().contains(text), "{text} is not in {}", shown.body);
    }
    assert!(other.get("/joins").await.page().contains("No box waits"));
    for path in [&page, &format!("{page}/confirm"), &format!("{page}/refuse")] {
        let method = if *path == page { Method::GET } else { Method::POST };
        let answer = if method == Method::GET {
            other.get(path).await
        } else {
            other.post(path, &[("name", "newcomer")]).await
        };
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(browser.post(&format!("{page}/confirm"), &[]).await.to(), "/joins");
    let Answer::Joined(joined) = newcomer.ask(&first).await.unwrap() else { panic!("it waits") };

    let join = format!("/networks/{}/servers/join", school.network);
    browser.get(&join).await.page();
    let fields =
        [("host", "panel.local"), ("hours", "1"), ("server", "newcomer"), ("confirm", "on")];
    let made = browser.post(&join, &fields).await;
    let second = JoinCode::parse(&made.after("<p class=\"secret\"><code>")).unwrap();
    let mut next = NewBox::new(&rig, Ipv4Addr::LOCALHOST);
    next.ask(&second).await.unwrap();
    let listed = browser.get("/joins").await;
    let page = format!("/joins/{}", listed.after("<a href=\"/joins/"));
    assert!(browser.get(&page).await.has("takes the place of <strong>newcomer"));
    let wrong = browser.post(&format!("{page}/confirm"), &[("server", "agent-1")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let wrong = browser.post(&format!("{page}/refuse"), &[("name", "")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        browser.post(&format!("{page}/refuse"), &[("name", "newcomer")]).await.to(),
        "/joins"
    );
    assert_eq!(next.ask(&second).await.unwrap_err().kind, "join-denied");
    let id: Id<Server> = Id::new(i64::try_from(joined.server).unwrap());
    let kept = rig.panel().certificates(ROOT, id).unwrap();
    assert!(kept.iter().all(|booked| booked.revoked_ms.is_none()), "its place was not taken");
}

#[tokio::test]
async fn what_a_box_should_not_send_is_refused_in_words() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let code = code(&mut browser, school.network, true).await;
    let mut first = NewBox::new(&rig, Ipv4Addr::LOCALHOST);
    assert!(matches!(first.ask(&code).await.unwrap(), Answer::Waiting { .. }));
    let refused = NewBox::new(&rig, Ipv4Addr::LOCALHOST).ask(&code).await.unwrap_err();
    assert_eq!((refused.status, refused.kind.as_str()), (403, "join-code-used"));

    let mut client = rig.browser();
    let long = " ".repeat(MOST_BYTES + 1);
    let long = client.send(Method::POST, PATH, &JSON, long).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", long.body);
    let whole = " ".repeat(MOST_BYTES);
    let empty = client.send(Method::POST, PATH, &JSON, whole).await;
    assert_eq!(empty.status, StatusCode::BAD_REQUEST, "{}", empty.body);
    assert_eq!(empty.headers[header::CONTENT_TYPE], "application/problem+json");

    let mut wrong = code;
    wrong.secret = JoinSecret::new([7; 8]);
    let mut last = None;
    for _ in 0..40 {
        let refused = first.ask(&wrong).await.unwrap_err();
        if refused.status == 429 {
            last = Some(refused);
            break;
        }
        assert_eq!(refused.kind, "join-code-wrong");
    }
    assert!(last.unwrap().detail.contains("wait"));
    let waiting = rig.panel().waiting_joins(ROOT).unwrap().len();
    assert_eq!(waiting, 1);
    assert!(rig.panel().list::<Server>(ROOT, &ListQuery::default()).unwrap().rows.len() == 1);
}
