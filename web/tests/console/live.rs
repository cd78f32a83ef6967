use std::time::Duration;

use axum::http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use panel::{noun::Place, operations::Actor};

use crate::rig::Rig;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn who_watches_is_told_of_a_change_and_hears_nothing_once_signed_out() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let (mut browser, mut other) = (rig.seat(user).await, rig.seat(user).await);
    let mut connection = browser.connect().await;
    let request = browser.request(Method::GET, "/events", &[], String::new());
    let response = connection.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body();
    other.post("/organizations/new", &[("name", "School")]).await.to();
    let told = tokio::time::timeout(SOON, stream.frame()).await.unwrap().unwrap().unwrap();
    let told = String::from_utf8(told.into_data().unwrap().to_vec()).unwrap();
    assert!(told.contains("event: changed"), "{told}");
    assert!(!told.contains("School"), "what changed is for each page to ask");
    rig.panel().end_sessions(Actor::Panel("test"), user, None).unwrap();
    rig.app.changed();
    let end = tokio::time::timeout(SOON, stream.frame()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
}
