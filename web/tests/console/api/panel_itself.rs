use axum::http::Method;
use model::wire::Status;
use panel::{
    noun::{Place, Server},
    operations::Own,
    statistics::Span,
    store::ListQuery,
};
use serde_json::{Value, json};

use super::{ALL, Program, TYPE};
use crate::rig::{ROOT, Rig, school};

#[tokio::test]
async fn a_channel_is_made_changed_tried_and_deleted() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let olga = rig.user(school.home(), "olga", "organization-admin", None);
    let mut program = Program::of(&rig, olga, ALL);
    let all = format!("/organizations/{}/channels", school.organization);
    let mut hook = json!({ "name": "hook", "least": "warning", "way": "hook",
        "url": "http://127.0.0.1:9/hook", "secret": "hunter2" });
    let made = program.post(&all, &hook).await;
    assert!(!made.body.contains("hunter2"));
    let path = made.header("location").strip_prefix("/api/v1").unwrap().to_owned();
    let (tag, value) = (made.header("etag").to_owned(), made.json(201));
    assert_eq!((&value["has_secret"], &value["value"]["way"]), (&json!(true), &json!("hook")));
    assert_eq!(program.get("/channels").await.json(200), json!([value]));

    hook["secret"] = Value::Null;
    hook["least"] = json!("info");
    let changed = program.put(&path, &tag, &hook).await;
    let newer = changed.header("etag").to_owned();
    assert_eq!(changed.json(200)["has_secret"], false);
    assert_eq!(program.put(&path, &tag, &hook).await.status, 412);
    hook.as_object_mut().unwrap().remove("secret");
    hook["colour"] = json!("red");
    // Where a channel's ways have each their own fields, serde tells the name and not the place.
    let unknown = program.put(&path, &newer, &hook).await;
    assert!(unknown.faults() == [""] && unknown.body.contains("colour"), "{}", unknown.body);

    let tried = program.post(&format!("{path}/test"), &json!({})).await.json(200);
    assert_eq!(tried["delivered"], false);
    assert!(tried["error"].as_str().unwrap().contains("it is the panel itself"), "{tried}");
    assert_eq!(program.get(&format!("{path}/notices")).await.json(200), json!([]));
    assert_eq!(program.delete(&path, &tag).await.status, 412);
    assert_eq!(program.delete(&path, &newer).await.status, 204);
    assert_eq!(program.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_superadmin_sets_the_panel_and_takes_a_backup_by_a_script() {
    let rig = Rig::new().await;
    let ada = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut program = Program::of(&rig, ada, ALL);
    let shown = program.get("/settings").await;
    let (tag, mut settings) =
        (shown.header("etag").to_owned(), shown.json(200)["settings"].clone());
    settings["session_hours"] = json!(3);
    assert_eq!(program.put("/settings", &tag, &settings).await.json(200)["settings"], settings);
    assert_eq!(program.put("/settings", &tag, &settings).await.status, 412);
    let newer = program.get("/settings").await.header("etag").to_owned();
    settings["session_hours"] = json!(0);
    assert_eq!(program.put("/settings", &newer, &settings).await.faults(), ["/session_hours"]);

    let made = program.post("/settings/backup", &json!({ "pass_phrase": "short" })).await;
    assert_eq!(made.faults(), ["/pass_phrase"]);
    let lock = json!({ "pass_phrase": "correct horse battery" }).to_string();
    let made = program.send(Method::POST, "/settings/backup", &[TYPE], lock).await;
    assert!(made.body.starts_with("age-encryption.org/v1"), "{:.40}", made.body);
    assert!(program.get("/settings").await.json(200)["backup_made_ms"].is_u64());
}

#[tokio::test]
async fn alerts_and_what_was_measured_are_told_to_programs() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let ada = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut program = Program::of(&rig, ada, ALL);
    rig.panel().look_around(&Own::default()).unwrap();
    let alerts = program.get("/alerts").await.json(200);
    let never =
        alerts.as_array().unwrap().iter().find(|alert| alert["cause"]["cause"] == "backup-never");
    let never = never.unwrap_or_else(|| panic!("{alerts}"));
    assert_eq!(never["page"], "/settings#backup");
    assert!(never["text"].as_str().unwrap().contains("never backed up"), "{never}");
    let path = format!("/networks/{}/statistics", school.network);
    assert_eq!(program.get(&path).await.json(200), json!([]));
    let server = rig.panel().list::<Server>(ROOT, &ListQuery::default()).unwrap().rows[0].id;
    rig.panel().observe(server, &Status::default()).unwrap();
    rig.panel().take_samples().unwrap();
    for span in Span::ALL.map(Span::word) {
        let samples = program.get(&format!("{path}?span={span}")).await.json(200);
        assert_eq!(samples[0]["devices_up"], 0.0, "{samples}");
    }
    assert_eq!(program.get(&format!("{path}?span=year")).await.faults(), ["span"]);
}
