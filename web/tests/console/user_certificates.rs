//! Browsers that sign in with a certificate, over real TLS.

use std::{
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use axum::http::{Method, StatusCode};
use clusterducks_panel::{admin, pages::account::token_digest};
use panel::{
    access::{Limit, Rank},
    ca::{Algorithm, Authority, Ca, Issued, Key, Reason, Serial, Subject},
    noun::{Id, User},
    operations::Actor,
};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::{
    accounts::{PASSWORD, with_password},
    rig::{Answer, Browser, ROOT, Rig},
};

fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'static>) -> CertifiedKey {
    CertifiedKey::new(chain, any_supported_type(key).unwrap())
}

fn shows(issued: &Issued, key: &Key) -> CertifiedKey {
    certified(issued.chain(), &key.rustls())
}

fn new_key() -> Key {
    Key::generate(Algorithm::EcdsaP256).unwrap()
}

/// A certificate that was given so long ago.
fn given(rig: &Rig, user: Id<User>, label: &str, age: Duration) -> (Serial, CertifiedKey) {
    let (key, at) = (new_key(), SystemTime::now() - age);
    let ca = rig.app.ca();
    let issued = rig.panel().give_certificate(&ca, Actor::User(user), label, &key.public(), at);
    let issued = issued.unwrap();
    (issued.certificate.serial(), shows(&issued, &key))
}

/// Somebody who is asked for a certificate, and one that counts.
fn asked(rig: &Rig, name: &str) -> (Id<User>, Serial, CertifiedKey) {
    let user = with_password(rig, name);
    let (serial, shows) = given(rig, user, "laptop", Duration::ZERO);
    let der = shows.cert[0].to_vec();
    rig.panel().ask_for_certificate(Actor::User(user), user, Some(&der)).unwrap();
    (user, serial, shows)
}

async fn sign_in(browser: &mut Browser, name: &str) -> Answer {
    let fields = [("name", name), ("password", PASSWORD), ("next", "/jobs")];
    browser.post("/sign-in", &fields).await
}

#[expect(clippy::disallowed_methods, reason = "the test asks openssl what it thinks")]
fn openssl(rig: &Rig, arguments: &str) -> String {
    let done = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(rig.folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "openssl {arguments}: {said}");
    said
}

fn file(rig: &Rig, name: &str, content: &[u8]) {
    use std::io::Write as _;
    let path = rig.folder.path().join(name);
    std::fs::File::create(path).unwrap().write_all(content).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_made_kept_in_a_browser_and_asked_for() {
    let rig = Rig::new().await;
    with_password(&rig, "ada");
    let mut plain = rig.browser();
    sign_in(&mut plain, "ada").await.to();
    let page = plain.get("/account/certificates").await;
    assert!(page.page().contains("this browser shows no certificate"), "{}", page.body);
    let ask = |password| [("on", "on"), ("current", password)];
    let refused = plain.post("/account/certificates/ask", &ask(PASSWORD)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "none was ever shown");
    let wrong =
        plain.post("/account/certificates", &[("name", "Firefox"), ("current", "wrong")]).await;
    assert!(wrong.has("this is not your password") && wrong.has("value=\"Firefox\""));
    let made =
        plain.post("/account/certificates", &[("name", "Firefox"), ("current", PASSWORD)]).await;
    let pass_phrase = made.after("<dd class=\"secret\"><code>");
    let sealed = made.after("name=\"bundle\" value=\"");
    let bundle = plain.post("/account/certificates/bundle", &[("bundle", &sealed)]).await;
    assert_eq!(bundle.headers["content-type"], "application/x-pkcs12");
    file(&rig, "ada.p12", &bundle.bytes);
    file(&rig, "phrase", pass_phrase.as_bytes());
    let told = openssl(&rig, "pkcs12 -in ada.p12 -passin file:phrase -info -noout");
    assert!(told.contains("PBES2, PBKDF2, AES-256-CBC"), "{told}");
    let opened = openssl(&rig, "pkcs12 -in ada.p12 -passin file:phrase -nodes");
    let chain = CertificateDer::pem_slice_iter(opened.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(opened.as_bytes()).unwrap();

    let mut browser = rig.browser_with(certified(chain, &key));
    browser.cookies = plain.cookies.clone();
    let page = browser.get("/account/certificates").await;
    assert!(page.page().contains("this browser shows a certificate of yours"), "{}", page.body);
    assert!(page.has("<td>never</td>"));
    let wrong = browser.post("/account/certificates/ask", &ask("wrong")).await;
    assert!(wrong.has("this is not your password"), "{}", wrong.body);
    let on = browser.post("/account/certificates/ask", &ask(PASSWORD)).await;
    assert_eq!(on.to(), "/account/certificates");
    assert!(plain.get("/jobs").await.to().starts_with("/sign-in"), "other sessions ended");
    assert!(browser.get("/account").await.page().contains("Look after them"));

    let late = sign_in(&mut plain, "ada").await;
    assert_eq!(late.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(late.has("this browser shows no certificate") && late.has("reset-password ada"));
    browser.cookies.clear();
    assert_eq!(sign_in(&mut browser, "ada").await.to(), "/jobs");
    let page = browser.get("/account/certificates").await;
    assert!(!page.page().contains("<td>never</td>"));
    let off = browser.post("/account/certificates/ask", &[("current", PASSWORD)]).await;
    assert_eq!(off.to(), "/account/certificates");
    assert_eq!(sign_in(&mut plain, "ada").await.to(), "/jobs");
}

#[tokio::test]
async fn a_certificate_that_does_not_count_is_refused_with_the_reason() {
    let rig = Rig::new().await;
    let (ada, _, good) = asked(&rig, "ada");
    let (_, _, of_another) = asked(&rig, "tina");
    let (serial, revoked) = given(&rig, ada, "lost", Duration::ZERO);
    rig.panel().revoke(Actor::User(ada), serial, Reason::KeyCompromise).unwrap();
    let (_, ended) = given(&rig, ada, "old", Duration::from_secs(399 * 86_400));
    let (now, key) = (SystemTime::now(), new_key());
    let root = Authority::root(now).unwrap();
    let issuing = root.issuing(&[], now).unwrap();
    let other = Ca::new(root.certificate().clone(), issuing, Authority::boot(now).unwrap());
    let subject = Subject::User("ada, laptop".into());
    let foreign = other.unwrap().issue(&subject, &key.public(), now).unwrap();
    let unknown = rig.app.ca().issue(&subject, &key.public(), now).unwrap();
    for (case, why) in [
        (of_another, "is somebody else"),
        (revoked, "was taken back"),
        (ended, "has ended"),
        (shows(&foreign, &key), "none of this panel"),
        (shows(&unknown, &key), "none of this panel"),
    ] {
        let mut browser = rig.browser_with(case);
        let refused = sign_in(&mut browser, "ada").await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{why}");
        assert!(refused.has(why), "{why}: {}", refused.body);
        assert!(browser.get("/jobs").await.to().starts_with("/sign-in"), "{why}");
        rig.app.succeeded("ada");
    }
    assert_eq!(sign_in(&mut rig.browser_with(good.clone()), "ada").await.to(), "/jobs");

    // A certificate is no secret: without its key, the handshake ends.
    let liar = certified(good.cert.clone(), &new_key().rustls());
    let mut liar = rig.browser_with(liar);
    let request = liar.request(Method::GET, "/sign-in", &[], String::new());
    let answer = liar.connect().await.send_request(request).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn of_several_second_factors_any_one_is_enough() {
    let rig = Rig::new().await;
    let (ada, _, good) = asked(&rig, "ada");
    rig.panel().set_totp(ROOT, ada, Some(b"sealed")).unwrap();
    let mut plain = rig.browser();
    assert_eq!(sign_in(&mut plain, "ada").await.to(), "/sign-in/code?next=%2Fjobs");
    let page = plain.get("/sign-in/code").await;
    assert!(page.page().contains("A certificate of yours would do instead"), "{}", page.body);
    assert!(plain.get("/jobs").await.to().starts_with("/sign-in"));
    assert_eq!(sign_in(&mut rig.browser_with(good.clone()), "ada").await.to(), "/jobs");
    rig.panel().stop_asking(ROOT, ada).unwrap();
    let mut browser = rig.browser_with(good);
    assert_eq!(sign_in(&mut browser, "ada").await.to(), "/sign-in/code?next=%2Fjobs");
    assert!(!browser.get("/sign-in/code").await.has("would do instead"));
}

#[tokio::test]
async fn programs_with_a_token_show_none() {
    let rig = Rig::new().await;
    let (ada, ..) = asked(&rig, "ada");
    let limit = Limit { most: Rank::Superadmin, network: None };
    let digest = token_digest("cdk_test");
    rig.panel().make_token(Actor::User(ada), "x", digest, limit, u64::MAX >> 1).unwrap();
    let mut program = rig.browser();
    let headers = [("authorization", "Bearer cdk_test")];
    let answer = program.send(Method::GET, "/api/v1/networks", &headers, String::new()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn a_key_of_ones_own_gets_a_certificate_by_its_request() {
    let rig = Rig::new().await;
    let ada = with_password(&rig, "ada");
    let mut browser = rig.seat(ada).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = request.pem().unwrap();
    let fields =
        |request| [("name", "token"), ("current", PASSWORD), ("request", ""), ("file", request)];
    let bad = browser.post("/account/certificates", &fields("no request")).await;
    assert!(bad.has("the certificate request can&#39;t be read"), "{}", bad.body);
    let made = browser.post("/account/certificates", &fields(&request)).await;
    assert!(!made.page().contains("Pass phrase"));
    let path = made.after("class=\"actions\"><a role=\"button\" href=\"");
    let pem = browser.get(&path).await;
    let chain = CertificateDer::pem_slice_iter(pem.page().as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(chain.len(), 2, "with the authority that signed it");
    let own = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut shown = rig.browser_with(certified(chain, &own));
    shown.cookies = browser.cookies.clone();
    let page = shown.get("/account/certificates").await;
    assert!(page.page().contains("<span class=\"tag\">this one</span>"), "{}", page.body);
    let mut tina = rig.seat(with_password(&rig, "tina")).await;
    assert_eq!(tina.get(&path).await.status, StatusCode::NOT_FOUND);
    let revoke = path.replace("/pem", "/revoke");
    assert_eq!(tina.post(&revoke, &[]).await.status, StatusCode::NOT_FOUND);
    let mut other = rig.seat(ada).await;
    assert_eq!(browser.post(&revoke, &[]).await.to(), "/account/certificates");
    assert!(other.get("/jobs").await.to().starts_with("/sign-in"), "it may have opened that one");
    assert!(shown.get("/account/certificates").await.has("was taken back"));
}

#[tokio::test]
async fn what_was_lost_is_taken_away_by_an_admin_or_on_the_box() {
    let rig = Rig::new().await;
    let (ada, serial, good) = asked(&rig, "ada");
    let mut root = rig.seat(with_password(&rig, "root")).await;
    let mut browser = rig.browser_with(good.clone());
    sign_in(&mut browser, "ada").await.to();
    browser.get("/account/certificates").await;
    let last = browser.post(&format!("/account/certificates/{serial}/revoke"), &[]).await;
    assert_eq!(last.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(last.has("it is the last that lets you in"), "{}", last.body);
    let listed = root.get("/certificates?kind=user").await;
    assert!(listed.page().contains(&format!("/users/{ada}\">laptop</a>")), "{}", listed.body);
    let one = format!("/certificates/issued/{serial}");
    assert!(root.get(&one).await.page().contains("Nobody signs in with it any more"));
    let fields = [("name", "laptop"), ("reason", "key-compromise")];
    assert_eq!(root.post(&format!("{one}/revoke"), &fields).await.to(), one);
    assert!(browser.get("/jobs").await.to().starts_with("/sign-in"), "its sessions ended");
    assert!(sign_in(&mut browser, "ada").await.has("was taken back"));

    root.get("/account").await;
    let made = root.post(&format!("/users/{ada}/password"), &[("factors", "on")]).await;
    let password = made.after("<dd class=\"secret\"><code>");
    let fields = [("name", "ada"), ("password", password.as_str()), ("next", "/jobs")];
    assert_eq!(rig.browser().post("/sign-in", &fields).await.to(), "/jobs");

    let (tina, ..) = asked(&rig, "tina");
    let data = rig.folder.path().join("panel");
    let reset = move || admin::reset_password(&data, &"tina".parse().unwrap()).unwrap();
    let password = tokio::task::spawn_blocking(reset).await.unwrap();
    let fields = [("name", "tina"), ("password", password.as_str()), ("next", "/jobs")];
    assert_eq!(rig.browser().post("/sign-in", &fields).await.to(), "/jobs");
    let left = rig.panel().user_certificates(Actor::User(tina), tina).unwrap();
    assert!(left.iter().all(|one| one.revoked_ms.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_whose_certificates_to_offer() {
    let rig = Rig::new().await;
    let arguments = format!("s_client -connect {} -tls1_3", rig.address);
    let told = openssl(&rig, &arguments);
    let names = told.split_once("Acceptable client certificate CA names").unwrap().1;
    for authority in [rig.app.ca().issuing().certificate(), rig.app.ca().root()] {
        let name = authority.subject().split("CN=").nth(1).unwrap().to_owned();
        assert!(names.contains(&format!("CN = {name}")), "{name}: {told}");
    }
}
