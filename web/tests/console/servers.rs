use axum::http::StatusCode;
use model::{code::JoinCode, wire::Status};
use panel::{
    noun::{Device, Place, Server},
    operations::Own,
    store::ListQuery,
};

use crate::rig::{ROOT, Rig, device, school};

#[tokio::test]
async fn a_join_code_is_shown_once_and_can_be_taken_back() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let list = format!("/networks/{}/servers", school.network);
    let join = format!("{list}/join");
    assert!(browser.get(&join).await.page().contains(&rig.address.to_string()));
    let fields = [("host", "panel.local:8443"), ("hours", "24"), ("server", ""), ("confirm", "on")];
    let made = browser.post(&join, &fields).await;
    assert!(made.page().contains("<svg") && made.has("clusterducks.toml"), "{}", made.body);
    let typed = made.after("<p class=\"secret\"><code>");
    let code = JoinCode::parse(&typed).unwrap();
    assert_eq!(code.address.to_string(), "panel.local:8443");
    assert!(code.root.matches(rig.app.ca().root().fingerprint().bytes()));
    let listed = browser.get(&list).await;
    assert!(listed.page().contains("Take back") && !listed.has(&typed));
    let kept = rig.panel().join_codes(ROOT, school.network).unwrap().remove(0);
    assert!(kept.confirm && kept.used_ms.is_none());
    let take = format!("{join}/{}/revoke", kept.id);
    assert_eq!(browser.post(&take, &[]).await.to(), list);
    assert!(!browser.get(&list).await.page().contains("Take back"));
    let wrong = browser.post(&join, &[("host", "a b"), ("hours", "9999")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let long = browser.post(&join, &[("host", "panel.local"), ("hours", "9999")]).await;
    assert!(long.has("a week at the most"), "{}", long.body);
}

#[tokio::test]
async fn a_server_shows_what_it_said_last() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let id = rig.make::<Device>(school.at(), device(10));
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let server = rig.panel().list::<Server>(ROOT, &ListQuery::default()).unwrap().rows[0].id;
    let path = format!("/servers/{server}");
    let before = browser.get(&path).await;
    assert!(
        before.page().contains("It has not shown itself yet") && before.has("data-state=\"new\"")
    );
    rig.panel().publish().unwrap();
    let mut status = Status { version: "9.8.7".into(), generation: 1, ..Status::default() };
    status.failures.insert("pool tank".into(), "no disk <b>A</b>".into());
    let pool = serde_json::json!({ "guid": 1, "health": "DEGRADED", "size_bytes": 1_u64 << 40, "free_bytes": 1_u64 << 39 });
    status.pools.insert("tank".parse().unwrap(), serde_json::from_value(pool).unwrap());
    let initiator = model::name::Iqn::initiator(&"pc-10".parse().unwrap());
    let target = model::name::Iqn::generation(&"lab".parse().unwrap(), 1);
    status.sessions.insert(target, [initiator].into());
    rig.panel().observe(server, &status).unwrap();
    let shown = browser.get(&path).await;
    for text in [
        "9.8.7",
        "no disk &#60;b&#62;A",
        "DEGRADED",
        "50 % of 1 TiB used",
        "generation.lab.g1",
        "data-state=\"failing\"",
    ] {
        assert!(shown.page().contains(text), "{text} is not in {}", shown.body);
    }
    rig.panel().look_around(&Own::default()).unwrap();
    let dashboard = browser.get("/").await;
    assert!(dashboard.page().contains("What to look after"), "{}", dashboard.body);
    let (pools, failed) = (format!("{path}#pools"), format!("{path}#failed"));
    assert!(dashboard.has("the pool tank is DEGRADED") && dashboard.has(&pools));
    assert!(dashboard.has("no disk &#60;b&#62;A") && dashboard.has(&failed));
    let device = browser.get(&format!("/devices/{id}")).await;
    assert!(device.page().contains("data-state=\"connected\""), "{}", device.body);
}
