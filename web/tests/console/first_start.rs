use axum::http::StatusCode;

use crate::rig::Rig;

const GOOD: &str = "quiet-otter-mends-lanterns";

fn form<'a>(code: &'a str, password: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("code", code),
        ("name", "ada"),
        ("full_name", "Ada Lovelace"),
        ("mail", ""),
        ("password", password),
        ("again", password),
    ]
}

#[tokio::test]
async fn a_new_panel_leads_everybody_to_the_first_start_and_its_code_makes_the_first_admin() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    for path in ["/", "/networks", "/account", "/sign-in"] {
        assert_eq!(browser.get(path).await.to(), "/first-start", "{path}");
    }
    assert!(browser.get("/first-start").await.page().contains("One-time code"));

    let weak = browser.post("/first-start", &form(&rig.code, "lovelace1")).await;
    assert_eq!(weak.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(weak.has("too easy to guess") && weak.has("value=\"Ada Lovelace\""), "{}", weak.body);
    assert!(!weak.has("lovelace1"), "a password never comes back");

    let wrong = browser.post("/first-start", &form("AAAAA-AAAAA", GOOD)).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.has("not the code that the panel shows"), "{}", wrong.body);
    assert!(rig.panel().is_new().unwrap());

    let made = browser.post("/first-start", &form(&rig.code.to_lowercase(), GOOD)).await;
    assert_eq!(made.to(), "/");
    let cookie = made.headers["set-cookie"].to_str().unwrap();
    for part in ["__Host-session=", "HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    assert!(browser.get("/").await.page().contains("Dashboard"));
    let mut other = rig.browser();
    assert_eq!(other.get("/first-start").await.to(), "/");
    assert_eq!(other.post("/first-start", &form(&rig.code, GOOD)).await.to(), "/sign-in");
}

#[tokio::test]
async fn the_code_of_the_first_start_can_not_be_guessed() {
    let rig = Rig::new().await;
    let mut browser = rig.browser();
    for _ in 0..5 {
        let wrong = browser.post("/first-start", &form("AAAAA-AAAAA", GOOD)).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let right_but_late = browser.post("/first-start", &form(&rig.code, GOOD)).await;
    assert_eq!(right_but_late.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(right_but_late.has("too many tries; wait"), "{}", right_but_late.body);
    assert!(rig.panel().is_new().unwrap());
}
