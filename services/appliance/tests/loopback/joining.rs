//! A box joins a panel: whom it trusts, what it sends, what it keeps, and what it makes of every answer.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use clusterducks_appliance::{
    facts::Standing,
    join::{
        client::{self, Error, Patience},
        joiner::{Handle, Joiner, OfferError, Settings},
        kept, pin,
        seed::{self, SeedJoin},
    },
};
use model::{
    code::{JoinCode, JoinSecret, Way},
    join::{Answer, Hardware, Request},
};
use rustls::{
    CertificateError, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::panel::{Own, Panel, Reply};

const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(5), all: Duration::from_secs(20) };

async fn ask(code: &JoinCode) -> Result<Answer, Error> {
    ask_within(code, PATIENCE).await
}

async fn ask_within(code: &JoinCode, patience: Patience) -> Result<Answer, Error> {
    let request = Request {
        secret: JoinSecret::new(*code.secret.bytes()),
        name: None,
        certificate_request_pem: String::new(),
        boot_request_pem: None,
        ssh_key: None,
        hardware: Hardware::default(),
    };
    client::ask(code, &request, std::path::Path::new("/nonexistent"), patience).await
}

fn waiting() -> Reply {
    Reply::Json(202, json!({ "state": "waiting", "retry_s": 0 }))
}

fn refusal(detail: &str) -> Reply {
    Reply::Json(
        403,
        json!({ "type": "about:blank", "title": "Refused", "status": 403, "detail": detail }),
    )
}

/// A box with its state, and the folder of its service.
struct Box {
    folder: tempfile::TempDir,
    pause: fn(u32) -> Duration,
}

/// A box that runs.
struct Running {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Running {
    /// As a power cut: nothing is finished.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Box {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), pause: |_failures| Duration::from_millis(10) }
    }

    async fn start(&self, seed: Option<&JoinCode>) -> Running {
        let code = seed.map(|code| SeedJoin { code: code.text().unwrap() });
        self.start_with(Ok(code)).await
    }

    fn settings(&self) -> Settings {
        Settings {
            state: self.folder.path().join("state"),
            certificates: self.tls().to_owned(),
            name: Some("seeded".parse().unwrap()),
            patience: PATIENCE,
            pause: self.pause,
        }
    }

    async fn start_with(&self, seed: Result<Option<SeedJoin>, seed::Error>) -> Running {
        let settings = self.settings();
        let (joiner, handle) = Joiner::open(settings, seed).await.unwrap();
        Running { handle, task: tokio::spawn(joiner.run()) }
    }

    fn tls(&self) -> std::path::PathBuf {
        self.folder.path().join("agent/tls")
    }

    fn remembered(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("state/join.json")).unwrap()
    }
}

impl Running {
    async fn until(&self, what: impl FnMut(&Standing) -> bool) -> Standing {
        let mut standing = self.handle.standing();
        let waited = tokio::time::timeout(Duration::from_secs(20), standing.wait_for(what)).await;
        waited.unwrap_or_else(|_| panic!("it stays {:?}", self.handle.standing())).unwrap().clone()
    }

    async fn joined(&self) {
        self.until(Standing::joined).await;
    }

    async fn failed(&self) -> String {
        match self.until(|standing| matches!(standing, Standing::Failed { .. })).await {
            Standing::Failed { why } => why,
            other => panic!("{other:?}"),
        }
    }
}

/// A server's certificate and key go together.
fn pair(tls: &Path, server: &str) {
    let read = |kind: &str| std::fs::read(tls.join(format!("{server}.{kind}"))).unwrap();
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&read("crt")).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&read("key")).unwrap();
    let provider = rustls::crypto::ring::default_provider().into();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
}

#[tokio::test]
async fn a_seeded_box_joins_by_itself_and_keeps_no_secret() {
    let panel = Panel::start(&[Reply::Join]).await;
    let (code, machine) = (panel.code(), Box::new());
    let running = machine.start(Some(&code)).await;
    running.joined().await;
    assert_eq!(
        *running.handle.standing().borrow(),
        Standing::Joined { panel: panel.address.to_string(), name: "server-07".to_owned() }
    );
    pair(&machine.tls(), "api");
    pair(&machine.tls(), "boot");
    let asked = panel.asked();
    assert_eq!((asked.len(), &asked[0]["name"]), (1, &json!("seeded")));
    assert!(asked[0]["hardware"]["memory_bytes"].as_u64().unwrap() > 0);
    assert!(!asked[0].to_string().contains("PRIVATE"));
    assert!(!machine.remembered().contains(code.text().unwrap().expose_secret()));
    let again = running.handle.offer(&panel.code().text().unwrap()).await;
    assert!(matches!(again, Err(OfferError::Joined)), "{again:?}");
}

#[tokio::test]
async fn nobody_is_asked_but_the_panel_of_the_code() {
    let (panel, other) = (Panel::start(&[Reply::Join]).await, Panel::start(&[Reply::Join]).await);
    let mut code = panel.code();
    code.address.port = other.address.port();
    assert!(matches!(ask(&code).await, Err(Error::OtherRoot(pin::OtherRoot))));
    let impostor = Panel::impostor(&panel.ca).await;
    code.address.port = impostor.address.port();
    let refused = ask(&code).await;
    let forged = CertificateError::BadSignature;
    assert!(
        matches!(&refused, Err(Error::Certificate(rustls::Error::InvalidCertificate(why))) if *why == forged),
        "{refused:?}"
    );
    assert_eq!((other.asked().len(), impostor.asked().len()), (0, 0));
}

#[tokio::test]
async fn a_typed_code_pins_as_well() {
    let panel = Panel::start(&[waiting()]).await;
    let typed = panel.code().typed().unwrap();
    let code = JoinCode::parse(secrecy::ExposeSecret::expose_secret(&typed)).unwrap();
    assert!(matches!(ask(&code).await, Ok(Answer::Waiting { .. })));
    let mut wrong = panel.code();
    wrong.root = model::code::Pin::Typed([0; 12]);
    assert!(matches!(ask(&wrong).await, Err(Error::OtherRoot(_))));
}

#[tokio::test]
async fn a_certificate_that_is_over_or_for_another_name_is_refused() {
    let day = Duration::from_secs(86_400);
    let over = Panel::showing(Own { until: SystemTime::now() - day, ..Own::default() }).await;
    let other = Panel::showing(Own { name: "192.0.2.1", ..Own::default() }).await;
    let why = async |panel: &Panel| match ask(&panel.code()).await {
        Err(Error::Certificate(rustls::Error::InvalidCertificate(why))) => why,
        answered => panic!("{answered:?}"),
    };
    let expired = why(&over).await;
    assert!(matches!(expired, CertificateError::ExpiredContext { .. }), "{expired:?}");
    let misnamed = why(&other).await;
    assert!(matches!(misnamed, CertificateError::NotValidForNameContext { .. }), "{misnamed:?}");
    assert_eq!((over.asked().len(), other.asked().len()), (0, 0));
}

#[tokio::test]
async fn a_panel_that_sends_elsewhere_is_not_followed() {
    let other = Panel::start(&[Reply::Join]).await;
    let to = format!("https://{}/join", other.address);
    let panel = Panel::start(&[Reply::Redirect(to)]).await;
    let answered = ask(&panel.code()).await;
    assert!(matches!(answered, Err(Error::Redirected(status)) if status == 307), "{answered:?}");
    assert_eq!(other.asked().len(), 0);
}

#[tokio::test]
async fn a_panel_may_not_talk_for_ever_nor_be_silent_for_ever() {
    let panel = Panel::start(&[Reply::Huge, Reply::Silence]).await;
    assert!(matches!(ask(&panel.code()).await, Err(Error::TooLong)));
    let patience = Patience { all: Duration::from_millis(500), ..PATIENCE };
    let answered = ask_within(&panel.code(), patience).await;
    assert!(matches!(answered, Err(Error::Timeout)), "{answered:?}");
}

#[tokio::test]
async fn answers_are_told_apart_by_what_may_help() {
    let retryable = async |reply: Reply| {
        let panel = Panel::start(&[reply]).await;
        ask(&panel.code()).await.unwrap_err().retryable()
    };
    for status in [500, 503, 429] {
        assert!(retryable(Reply::Json(status, json!({}))).await, "{status}");
    }
    assert!(retryable(Reply::Gone).await);
    assert!(!retryable(refusal("no")).await);
    assert!(!retryable(Reply::Json(200, json!({ "state": "other" }))).await);
    assert!(!retryable(Reply::Json(404, json!("what?"))).await);
}

#[tokio::test]
async fn a_box_waits_until_a_person_has_confirmed_over_a_restart_too() {
    let panel = Panel::start(&[waiting(), waiting(), Reply::Join]).await;
    let (code, machine) = (panel.code(), Box::new());
    let unconfirmed = |standing: &Standing| matches!(standing, Standing::Unconfirmed { .. });
    machine.start(Some(&code)).await.until(unconfirmed).await;
    let running = machine.start(Some(&code)).await;
    assert!(unconfirmed(&running.handle.standing().borrow()));
    running.joined().await;
    let asked = panel.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|question| question["secret"] == asked[0]["secret"]));
}

#[tokio::test]
async fn a_panel_that_is_out_of_order_is_asked_again() {
    let broken = Reply::Json(503, json!({}));
    let panel = Panel::start(&[broken, Reply::Gone, Reply::Join]).await;
    let machine = Box::new();
    machine.start(Some(&panel.code())).await.joined().await;
    assert_eq!(panel.asked().len(), 3);
}

#[tokio::test]
async fn a_refused_code_is_told_in_the_panels_words_and_never_used_again() {
    let panel = Panel::start(&[refusal("the code was used already"), Reply::Join]).await;
    let (code, machine) = (panel.code(), Box::new());
    let running = machine.start(Some(&code)).await;
    let why = running.failed().await;
    assert!(why.ends_with("it refuses: the code was used already"), "{why}");
    drop(running);
    assert!(!machine.remembered().contains(code.text().unwrap().expose_secret()));
    let running = machine.start(Some(&code)).await;
    assert_eq!(running.failed().await, why);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(panel.asked().len(), 1);
    running.handle.offer(&panel.code().typed().unwrap()).await.unwrap();
    running.joined().await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_not_kept_and_its_code_is() {
    for (reply, told) in [
        (Reply::Foreign("root_pem"), "it gave the root of another panel"),
        (Reply::Foreign("api_chain_pem"), "the api.crt that it gave is not good"),
        (Reply::Foreign("boot_chain_pem"), "the boot.crt that it gave is not good"),
        (Reply::Foreign("boot_root_pem"), "the boot.crt that it gave is not good"),
        (Reply::Swapped("api_chain_pem", "boot_chain_pem"), "keys may not be consistent"),
        (Reply::Swapped("boot_root_pem", "state"), "the boot-ca.crt that it gave can't be read"),
    ] {
        let panel = Panel::start(std::slice::from_ref(&reply)).await;
        let (code, machine) = (panel.code(), Box::new());
        let running = machine.start(Some(&code)).await;
        let why = running.failed().await;
        assert!(why.contains(told), "{reply:?}: {why}");
        assert!(machine.remembered().contains(code.text().unwrap().expose_secret()));
        assert_eq!((panel.asked().len(), machine.tls().exists()), (1, false));
    }
}

#[tokio::test]
async fn a_code_that_is_too_old_by_the_boxs_clock_is_not_tried_for_ever() {
    let panel = Panel::start(&[Reply::Gone]).await;
    let code = panel.code_for(Way::Panel, Duration::ZERO);
    let machine = Box::new();
    let why = machine.start(Some(&code)).await.failed().await;
    assert!(why.contains("the code was good until"), "{why}");
    assert_eq!(panel.asked().len(), 10);
}

#[tokio::test]
async fn cut_off_before_the_answer_it_asks_again_with_the_same_keys() {
    let panel = Panel::start(&[Reply::Silence, Reply::Join]).await;
    let (machine, code) = (Box::new(), panel.code().text().unwrap());
    let running = machine.start(None).await;
    running.handle.offer(&code).await.unwrap();
    while panel.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(machine.remembered().contains(code.expose_secret()));
    drop(running);
    let running = machine.start(None).await;
    running.joined().await;
    assert!(!machine.remembered().contains(code.expose_secret()));
    let asked = panel.asked();
    assert_eq!(asked[0]["secret"], asked[1]["secret"]);
    for name in ["certificate_request_pem", "boot_request_pem"] {
        assert_eq!(requested(&asked[0], name), requested(&asked[1], name), "{name}");
    }
}

/// The public key that a certificate was asked for.
fn requested(question: &serde_json::Value, name: &str) -> Vec<u8> {
    let request = question[name].as_str().unwrap();
    let request = rcgen::CertificateSigningRequestParams::from_pem(request).unwrap();
    rcgen::PublicKeyData::der_bytes(&request.public_key).to_vec()
}

#[tokio::test]
async fn codes_that_follow_one_another_fast_are_asked_with_the_one_key_that_is_kept() {
    let panels = [
        Panel::start(&[waiting()]).await,
        Panel::start(&[waiting()]).await,
        Panel::start(&[waiting()]).await,
    ];
    let machine = Box::new();
    let running = machine.start(None).await;
    for panel in &panels {
        running.handle.offer(&panel.code().text().unwrap()).await.unwrap();
    }
    running.until(|standing| matches!(standing, Standing::Unconfirmed { .. })).await;
    for (name, file) in [("certificate_request_pem", "api.key"), ("boot_request_pem", "boot.key")] {
        let kept = std::fs::read_to_string(machine.folder.path().join("state").join(file)).unwrap();
        let kept = rcgen::KeyPair::from_pem(&kept).unwrap();
        let kept = rcgen::PublicKeyData::der_bytes(&kept).to_vec();
        for question in panels.iter().flat_map(Panel::asked) {
            assert_eq!(requested(&question, name), kept, "{name}");
        }
    }
}

#[tokio::test]
async fn cut_off_after_the_answer_it_needs_the_panel_no_more() {
    let panel = Panel::start(&[Reply::Join]).await;
    let machine = Box::new();
    machine.start(Some(&panel.code())).await.joined().await;
    drop(panel);
    std::fs::remove_dir_all(machine.tls()).unwrap();
    let running = machine.start(None).await;
    assert!(running.handle.standing().borrow().joined(), "before anybody asks");
    pair(&machine.tls(), "api");
}

#[tokio::test]
async fn a_box_that_can_t_put_its_certificates_in_place_yet_refuses_a_code_at_once() {
    let panel = Panel::start(&[Reply::Join]).await;
    let machine = Box { pause: |_failures| Duration::from_secs(300), ..Box::new() };
    std::fs::File::create(machine.tls().parent().unwrap()).unwrap();
    let running = machine.start(Some(&panel.code())).await;
    let stuck = |standing: &Standing| matches!(standing, Standing::Asking { trouble: Some(_), .. });
    running.until(stuck).await;
    let code = panel.code().text().unwrap();
    let offered = tokio::time::timeout(Duration::from_secs(10), running.handle.offer(&code)).await;
    assert!(matches!(offered, Ok(Err(OfferError::Joined))), "{offered:?}");
}

#[tokio::test]
async fn a_box_whose_memory_is_damaged_begins_anew_unless_it_has_joined() {
    let panel = Panel::start(&[Reply::Join]).await;
    let machine = Box::new();
    let state = machine.folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let damage = |name: &str| {
        host::files::write_atomic(&state.join(name), b"spoilt", 0o600).unwrap();
    };
    damage("join.json");
    damage("api.key");
    let running = machine.start(Some(&panel.code())).await;
    running.joined().await;
    drop(running);
    pair(&machine.tls(), "api");
    damage("join.json");
    let opened = Joiner::open(machine.settings(), Ok(None)).await;
    assert!(matches!(opened, Err(kept::Error::Damaged { .. })), "{opened:?}");
    assert_eq!(machine.remembered(), "spoilt");
}

#[tokio::test]
async fn a_new_code_takes_the_place_of_one_that_leads_nowhere() {
    let (lost, panel) = (Panel::start(&[Reply::Silence]).await, Panel::start(&[Reply::Join]).await);
    let machine = Box::new();
    let running = machine.start(Some(&lost.code())).await;
    while lost.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.handle.offer(&panel.code().text().unwrap()).await.unwrap();
    running.joined().await;
    assert_eq!(lost.asked().len(), 1);
}

#[tokio::test]
async fn what_is_no_code_for_this_box_is_refused_at_once() {
    let panel = Panel::start(&[Reply::Join]).await;
    let machine = Box::new();
    let running = machine.start(None).await;
    let refused = running.handle.offer(&SecretString::from("AAAAA-BBBBB")).await;
    assert!(matches!(refused, Err(OfferError::Code(_))), "{refused:?}");
    assert_eq!(*running.handle.standing().borrow(), Standing::Alone);
    assert!(panel.asked().is_empty());
}

#[tokio::test]
async fn a_tunnel_that_leads_nowhere_is_told_with_what_openssh_says_of_it() {
    let panel = Panel::start(&[Reply::Join]).await;
    let mut code = panel.code_for(Way::Tunnel, Duration::from_secs(3600));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    code.address = closed.to_string().parse().unwrap();
    let failed = ask(&code).await.unwrap_err();
    let Error::Tunnel(said) = &failed else { panic!("{failed:?}") };
    assert!(said.contains("Connection refused"), "{said}");
    assert!(failed.retryable());
    assert!(panel.asked().is_empty(), "the panel's own address is not asked instead");
}

#[tokio::test]
async fn a_seed_file_that_is_wrong_is_told_and_a_person_can_go_on() {
    let panel = Panel::start(&[Reply::Join]).await;
    let code = SeedJoin { code: SecretString::from("AAAAA-BBBBB") };
    let machine = Box::new();
    let running = machine.start_with(Ok(Some(code))).await;
    let why = running.failed().await;
    assert!(why.starts_with("the seed file has no good code: the code can't be read"), "{why}");
    running.handle.offer(&panel.code().text().unwrap()).await.unwrap();
    running.joined().await;
}
