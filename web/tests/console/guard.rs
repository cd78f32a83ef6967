use axum::http::{Method, StatusCode, header};
use panel::noun::{Organization, Place};
use panel::store::ListQuery;

use crate::rig::{ROOT, Rig};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// What it is, the headers, and the token.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn a_change_that_does_not_come_from_our_pages_is_refused() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let count = || rig.panel().count::<Organization>(ROOT, &ListQuery::default()).unwrap();
    let token = browser.csrf.clone();
    let path = "/organizations/new";
    let cases: [Case<'_>; 5] = [
        ("no token", &[FORM, ("sec-fetch-site", "same-origin")], ""),
        ("another token", &[FORM, ("sec-fetch-site", "same-origin")], "00"),
        ("another site", &[FORM, ("sec-fetch-site", "cross-site")], &token),
        ("another origin", &[FORM, ("origin", "https://evil.example")], &token),
        ("a neighbour", &[FORM, ("sec-fetch-site", "same-site")], &token),
    ];
    for (case, headers, token) in cases {
        let body = format!("name=Evil&csrf={token}");
        let refused = browser.send(Method::POST, path, headers, body).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{case}");
        assert!(refused.has("does not come from a page of this console"), "{case}");
        assert_eq!(count(), 0, "{case}");
    }
    let headers = [FORM, ("x-csrf-token", token.as_str())];
    let taken = browser.send(Method::POST, path, &headers, "name=Good".into()).await;
    assert_eq!(taken.to(), "/organizations");
    assert_eq!(count(), 1);
}

#[tokio::test]
async fn a_sign_in_can_not_be_forged_by_another_site() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let headers = [FORM, ("sec-fetch-site", "cross-site")];
    let refused =
        browser.send(Method::POST, "/sign-in", &headers, "name=eve&password=x".into()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn browsers_are_held_to_what_is_ours() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    for path in ["/", "/nothing", "/static/nothing.css", "/account"] {
        let answer = browser.get(path).await;
        let says = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = says("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert!(says("strict-transport-security").starts_with("max-age="));
        assert_eq!(says("x-content-type-options"), "nosniff");
        assert_eq!(says("referrer-policy"), "same-origin");
        assert_eq!(says("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn files_have_names_of_their_own_and_are_kept_for_a_year() {
    let rig = Rig::new().await;
    let page = rig.browser().get("/certificates").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    let mut browser = rig.browser();
    let page = browser.get("/first-start").await;
    let mut seen = 0;
    for (index, _) in page.body.match_indices("/static/") {
        let path: String = page.body[index..].chars().take_while(|c| *c != '"').collect();
        let file = browser.get(&path).await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        let kept = file.headers[header::CACHE_CONTROL].to_str().unwrap();
        assert_eq!(kept, "public, max-age=31536000, immutable");
        assert!(file.headers.contains_key("x-content-type-options"));
        seen += 1;
    }
    assert!(seen >= 6, "style sheets, scripts and the picture: {seen}");
    assert!(!page.has("https://") && !page.has("http://"), "nothing comes from elsewhere");
}

#[tokio::test]
async fn a_script_that_asks_for_a_part_is_led_to_sign_in_as_a_whole() {
    let rig = Rig::new().await;
    rig.panel()
        .make_first(
            &crate::rig::value(
                serde_json::json!({ "name": "ada", "full_name": "A", "standing": "superadmin" }),
            ),
            "hash",
        )
        .unwrap();
    let answer = rig.browser().part("/networks").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers["hx-redirect"], "/sign-in");
}

#[tokio::test]
async fn what_is_too_long_is_not_read() {
    let rig = Rig::new().await;
    let headers = [FORM, ("sec-fetch-site", "same-origin")];
    let body = format!("name={}", "x".repeat(20_000));
    let answer = rig.browser().send(Method::POST, "/sign-in", &headers, body).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_root_can_be_had_without_signing_in() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let pem = browser.get("/certificates/root.pem").await;
    assert_eq!(pem.page(), rig.app.ca().root().pem());
    let der = browser.get("/certificates/root.crt").await;
    assert_eq!(der.status, StatusCode::OK);
    assert_eq!(der.headers[header::CONTENT_TYPE], "application/x-x509-ca-cert");
}

#[tokio::test]
async fn the_theme_is_kept_and_leads_back() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    let fields = [("theme", "dark"), ("back", "/first-start")];
    assert_eq!(browser.post("/theme", &fields).await.to(), "/first-start");
    assert!(browser.get("/first-start").await.page().contains("data-theme=\"dark\""));
}
