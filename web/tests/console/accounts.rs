use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use panel::{
    noun::{Id, Place, User},
    operations::Actor,
    password::Passwords,
    secret::ExposeSecret as _,
};

use crate::rig::{ROOT, Rig};

pub(crate) const PASSWORD: &str = "quiet-otter-mends-lanterns";

pub(crate) fn with_password(rig: &Rig, name: &str) -> Id<User> {
    let user = rig.user(Place::Panel, name, "superadmin", None);
    let hash = Passwords::new().unwrap().hash(&PASSWORD.into()).unwrap();
    rig.panel().set_password(ROOT, user, hash.expose_secret()).unwrap();
    user
}

#[tokio::test]
async fn a_password_lets_in_and_signing_out_ends_it() {
    let rig = Rig::new().await;
    with_password(&rig, "ada");
    let mut browser = rig.browser();
    assert_eq!(browser.get("/networks?q=a").await.to(), "/sign-in?next=%2Fnetworks%3Fq%3Da");
    let enter = |name: &'static str, password: &'static str| {
        [("name", name), ("password", password), ("next", "/networks")]
    };
    let wrong = browser.post("/sign-in", &enter("ada", "wrong")).await;
    let nobody = browser.post("/sign-in", &enter("eve", "wrong")).await;
    for refused in [&wrong, &nobody] {
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.has("the name or the password is not right"), "{}", refused.body);
    }
    assert_eq!(browser.post("/sign-in", &enter("Ada", PASSWORD)).await.to(), "/networks");
    assert!(browser.get("/networks").await.page().contains("Networks"));
    let secret = browser.cookies["__Host-session"].clone();
    assert_eq!(browser.post("/sign-out", &[]).await.to(), "/sign-in");
    assert!(!browser.cookies.contains_key("__Host-session"));
    browser.cookies.insert("__Host-session".into(), secret);
    assert_eq!(
        browser.get("/account").await.to(),
        "/sign-in?next=%2Faccount",
        "the session is over"
    );
}

#[tokio::test]
async fn nobody_is_led_to_another_site_by_signing_in() {
    let rig = Rig::new().await;
    with_password(&rig, "ada");
    let mut browser = rig.browser();
    let fields = [("name", "ada"), ("password", PASSWORD), ("next", "//evil.example/")];
    assert_eq!(browser.post("/sign-in", &fields).await.to(), "/");
}

#[tokio::test]
async fn who_guesses_has_to_wait() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    rig.panel().set_password(ROOT, user, "no hash is ever compared here").unwrap();
    for _ in 0..10 {
        rig.app.attempt("ada", [192, 0, 2, 1].into()).unwrap();
    }
    let mut browser = rig.browser();
    let late = browser.post("/sign-in", &[("name", "ada"), ("password", PASSWORD)]).await;
    assert_eq!(late.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(late.has("too many tries; wait"), "{}", late.body);
}

/// The code of an authenticator app for the secret that the page shows, some steps from now.
fn code(typed: &str, steps: i64) -> String {
    let secret = totp_rs::Secret::try_from_base32(typed).unwrap();
    let totp = totp_rs::Builder::new()
        .with_algorithm(totp_rs::Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(30)
        .with_secret(secret)
        .build()
        .unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    totp.generate(now.checked_add_signed(30 * steps).unwrap()).to_string()
}

#[tokio::test]
async fn one_time_passwords_are_set_up_asked_for_and_good_once() {
    let rig = Rig::new().await;
    with_password(&rig, "ada");
    let mut browser = rig.browser();
    let enter = [("name", "ada"), ("password", PASSWORD), ("next", "/jobs")];
    assert_eq!(browser.post("/sign-in", &enter).await.to(), "/jobs");
    let shown = browser.get("/account/totp").await;
    let (typed, sealed) =
        (shown.after("<code class=\"secret\">"), shown.after("name=\"secret\" value=\""));
    let set = |code: String, sealed: String, password: &str| {
        [("code", code), ("secret", sealed), ("current", password.to_owned())]
    };
    let send = |pairs: [(&'static str, String); 3]| pairs;
    let wrong = send(set("000000".into(), sealed.clone(), PASSWORD));
    let wrong: Vec<_> = wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = browser.post("/account/totp", &wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.after("<code class=\"secret\">"), typed, "the app need not be set up anew");
    let right = send(set(code(&typed, 0), sealed, PASSWORD));
    let right: Vec<_> = right.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let codes = browser.post("/account/totp", &right).await;
    assert!(codes.page().contains("Recovery codes"));
    let recovery = codes.after("<li><code>");
    assert!(browser.get("/account").await.page().contains("Use another app"), "still signed in");

    let mut other = rig.browser();
    assert_eq!(other.post("/sign-in", &enter).await.to(), "/sign-in/code?next=%2Fjobs");
    assert_eq!(other.get("/jobs").await.to(), "/sign-in?next=%2Fjobs", "a password is not enough");
    assert!(other.get("/sign-in/code").await.page().contains("One-time password"));
    let wrong = other.post("/sign-in/code", &[("code", "000000")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let next = code(&typed, 1);
    let came_in = other.post("/sign-in/code", &[("code", &next), ("next", "/jobs")]).await;
    assert_eq!(came_in.to(), "/jobs");
    assert!(other.get("/jobs").await.page().contains("Jobs"));

    let mut again = rig.browser();
    again.post("/sign-in", &enter).await.to();
    let used = again.post("/sign-in/code", &[("code", &next)]).await;
    assert!(used.has("was used already"), "{}", used.body);
    assert_eq!(again.post("/sign-in/code", &[("code", &recovery)]).await.to(), "/");
    again.cookies.clear();
    again.post("/sign-in", &enter).await.to();
    let twice = again.post("/sign-in/code", &[("code", &recovery)]).await;
    assert_eq!(twice.status, StatusCode::UNPROCESSABLE_ENTITY, "a recovery code is good once");
}

#[tokio::test]
async fn a_session_that_is_ended_elsewhere_is_over_at_once() {
    let rig = Rig::new().await;
    let user = with_password(&rig, "ada");
    let (mut one, mut two) = (rig.seat(user).await, rig.seat(user).await);
    assert!(two.get("/account").await.page().contains("End all others"));
    assert_eq!(one.post("/account/sessions/end", &[]).await.to(), "/account");
    assert_eq!(two.get("/account").await.to(), "/sign-in?next=%2Faccount");
    assert!(!one.get("/account").await.page().contains("End all others"));
    let log = rig.panel().sessions(Actor::User(user), user).unwrap();
    assert_eq!(log.len(), 1);
}

#[tokio::test]
async fn a_new_password_takes_the_old_one_and_ends_other_sessions() {
    let rig = Rig::new().await;
    let user = with_password(&rig, "ada");
    let (mut one, mut two) = (rig.seat(user).await, rig.seat(user).await);
    let change = |current: &'static str, password: &'static str| {
        [("current", current), ("password", password), ("again", password)]
    };
    let next = "seven-herons-under-glass";
    let wrong = one.post("/account/password", &change("wrong", next)).await;
    assert!(wrong.has("this is not your password"), "{}", wrong.body);
    let weak = one.post("/account/password", &change(PASSWORD, "ada12345")).await;
    assert_eq!(weak.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(two.get("/account").await.page().contains("My account"));
    assert_eq!(one.post("/account/password", &change(PASSWORD, next)).await.to(), "/account");
    assert!(one.get("/account").await.page().contains("My account"));
    assert_eq!(two.get("/account").await.to(), "/sign-in?next=%2Faccount");
}

#[tokio::test]
async fn an_admin_gives_a_password_which_is_shown_once_and_ends_what_the_old_one_opened() {
    let rig = Rig::new().await;
    let ada = with_password(&rig, "ada");
    let tina = with_password(&rig, "tina");
    let (mut browser, mut hers) = (rig.seat(ada).await, rig.seat(tina).await);
    let path = format!("/users/{tina}/password");
    assert!(browser.get(&path).await.page().contains("Make a password"));
    let made = browser.post(&path, &[]).await;
    let password = made.after("<dd class=\"secret\"><code>");
    assert!(!browser.get(&path).await.has(&password));
    assert_eq!(hers.get("/account").await.to(), "/sign-in?next=%2Faccount");
    let old = hers.post("/sign-in", &[("name", "tina"), ("password", PASSWORD)]).await;
    assert_eq!(old.status, StatusCode::UNPROCESSABLE_ENTITY);
    let new = hers.post("/sign-in", &[("name", "tina"), ("password", &password)]).await;
    assert_eq!(new.to(), "/");
    let own = format!("/users/{ada}/password");
    assert_eq!(browser.get(&own).await.to(), "/account");
    assert_eq!(browser.post(&own, &[]).await.to(), "/account", "one's own takes the old one");
    assert!(browser.get("/account").await.page().contains("My account"));
}

#[tokio::test]
async fn an_api_token_is_shown_once_and_can_be_revoked() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let fields = [("name", "Nightly"), ("most", "viewer"), ("network", ""), ("days", "30")];
    let made = browser.post("/account/tokens", &fields).await;
    let token = made.after("<li><code>");
    assert!(token.starts_with("cdk_"), "{token}");
    let digest = clusterducks_panel::pages::account::token_digest(&token);
    assert!(rig.panel().token(digest).unwrap().is_some());
    let listed = browser.get("/account").await;
    assert!(listed.page().contains("Nightly") && !listed.has(&token));
    let twice = browser.post("/account/tokens", &fields).await;
    assert!(twice.has("this name is taken"), "{}", twice.body);
    let revoke = listed.after("action=\"/account/tokens/");
    assert_eq!(browser.post(&format!("/account/tokens/{revoke}"), &[]).await.to(), "/account");
    assert!(rig.panel().token(digest).unwrap().is_none());
}
