use std::time::Duration;

use axum::http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use panel::{noun::Place, operations::Actor};
use serde_json::json;

use super::{ALL, Program};
use crate::rig::Rig;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_program_hears_of_a_change_and_nothing_more_once_its_token_is_revoked() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let (mut listener, mut other) = (Program::of(&rig, user, ALL), Program::of(&rig, user, ALL));
    let bearer = format!("Bearer {}", listener.token);
    let headers = [("authorization", bearer.as_str())];
    let request = listener.browser.request(Method::GET, "/api/v1/events", &headers, String::new());
    let response = listener.browser.connect().await.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body();
    other.post("/organizations", &json!({ "name": "School" })).await.json(201);
    let told = tokio::time::timeout(SOON, stream.frame()).await.unwrap().unwrap().unwrap();
    let told = String::from_utf8(told.into_data().unwrap().to_vec()).unwrap();
    assert!(told.contains("event: changed") && !told.contains("School"), "{told}");
    for token in rig.panel().tokens(Actor::User(user), user).unwrap() {
        rig.panel().revoke_token(Actor::User(user), user, token.id).unwrap();
    }
    rig.app.changed();
    let end = tokio::time::timeout(SOON, stream.frame()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
}
