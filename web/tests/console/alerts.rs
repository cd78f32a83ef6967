//! What the panel finds by itself: alerts, boots, statistics, notices, and its own settings.

use axum::http::StatusCode;
use model::wire::{BootStep, Event, EventKind, Status};
use panel::{
    noun::{Device, Id, Place, Server},
    operations::Own,
    store::ListQuery,
};
use serde_json::json;

use crate::rig::{ROOT, Rig, School, device, school, value};

fn server(rig: &Rig) -> Id<Server> {
    rig.panel().list::<Server>(ROOT, &ListQuery::default()).unwrap().rows[0].id
}

/// The school's server shows a pool of this health, with so many sessions.
fn show(rig: &Rig, health: &str, sessions: usize) {
    let mut status = Status::default();
    let pool = json!({ "guid": 1, "health": health, "size_bytes": 1_u64 << 40, "free_bytes": 1_u64 << 39 });
    status.pools.insert("tank".parse().unwrap(), value(pool));
    let name = |number| format!("iqn.2026-01.x:{number}").parse().unwrap();
    status.sessions.insert(name(999), (0..sessions).map(name).collect());
    rig.panel().observe(server(rig), &status).unwrap();
    rig.panel().look_around(&Own::default()).unwrap();
}

async fn pair() -> (Rig, School) {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    (rig, school)
}

#[tokio::test]
async fn each_alert_leads_to_its_solution_and_stands_at_the_top_of_every_page() {
    let (rig, school) = pair().await;
    show(&rig, "DEGRADED", 0);
    let root = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut ada = rig.seat(root).await;
    let page = ada.get("/alerts").await;
    let shown = page.page().to_owned();
    assert!(shown.contains("the pool tank is DEGRADED") && shown.contains("was never backed up"));
    let links: Vec<_> = shown.split("class=\"solution\" href=\"").skip(1).collect();
    assert_eq!(links.len(), 2);
    for link in links {
        let path = link.split(['"', '#']).next().unwrap();
        assert_eq!(ada.get(path).await.status, StatusCode::OK, "{path}");
    }
    let count = ada.part("/alerts/count").await;
    assert!(
        count.page().contains("data-severity=\"warning\"") && count.has(" 2 "),
        "{}",
        count.body
    );
    let viewer = rig.user(school.home(), "vera", "member", Some("viewer"));
    let mut vera = rig.seat(viewer).await;
    let seen = vera.get("/networks").await;
    assert!(seen.page().contains("class=\"word\">alert</span>"), "{}", seen.body);
    let stranger = rig.user(school.home(), "nemo", "member", None);
    let mut nemo = rig.seat(stranger).await;
    assert!(nemo.get("/alerts").await.page().contains("Nothing is wrong."));
    show(&rig, "ONLINE", 0);
    assert!(vera.get("/alerts").await.page().contains("Nothing is wrong."));
}

#[tokio::test]
async fn a_device_shows_how_it_booted_and_the_dashboard_who_boots_now() {
    let (rig, school) = pair().await;
    let id = rig.make::<Device>(school.at(), device(10));
    let root = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut ada = rig.seat(root).await;
    let path = format!("/devices/{id}");
    assert!(ada.get(&path).await.page().contains("It has not booted yet."));
    let now_ms = rig.panel().now_ms();
    let step = |boot: u32, step, time_ms| {
        let kind = EventKind::Boot {
            device: "pc-10".parse().unwrap(),
            boot: format!("{boot:032x}").parse().unwrap(),
            step,
            message: if step == BootStep::Failed { "no <disk>".to_owned() } else { String::new() },
        };
        Event { number: 1, time_ms, kind }
    };
    let events = [
        step(1, BootStep::Script, now_ms - 90_000),
        step(1, BootStep::Failed, now_ms - 80_000),
        step(2, BootStep::Script, now_ms - 5_000),
        step(2, BootStep::Kernel, now_ms - 2_500),
    ];
    rig.panel().keep_boots(server(&rig), &events).unwrap();
    let shown = ada.get(&path).await;
    for text in ["data-state=\"booting\"", "+2.5 s", "no &#60;disk&#62;", "data-state=\"failed\""] {
        assert!(shown.page().contains(text), "{text} is not in {}", shown.body);
    }
    let dashboard = ada.get("/").await;
    assert!(dashboard.page().contains("Booting now") && dashboard.has(&format!("{path}#boots")));
    rig.panel().keep_boots(server(&rig), &[step(2, BootStep::Up, now_ms)]).unwrap();
    assert!(!ada.get("/").await.page().contains("Booting now"));
    assert!(ada.get(&path).await.page().contains("in 5.0 s"));
}

#[tokio::test]
async fn charts_are_drawn_of_nothing_of_one_sample_and_in_numbers_too() {
    let (rig, school) = pair().await;
    let root = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut ada = rig.seat(root).await;
    let pages =
        [format!("/servers/{}", server(&rig)), format!("/networks/{}/statistics", school.network)];
    for path in &pages {
        let empty = ada.get(path).await;
        assert!(empty.page().contains("Nothing was measured"), "{}", empty.body);
        assert!(!empty.has("<svg viewBox"), "{}", empty.body);
    }
    show(&rig, "ONLINE", 3);
    rig.panel().take_samples().unwrap();
    for path in &pages {
        for span in ["day", "month", "century"] {
            let one = ada.get(&format!("{path}?span={span}")).await;
            assert!(one.page().contains("<circle cx="), "{path} {span}: {}", one.body);
            assert!(one.has("In numbers") && one.has("role=\"img\""), "{}", one.body);
        }
    }
}

#[tokio::test]
async fn a_channel_is_tried_with_what_really_comes_of_it() {
    let (rig, school) = pair().await;
    let admin = rig.user(school.home(), "olga", "organization-admin", None);
    let mut olga = rig.seat(admin).await;
    olga.get("/channels/new").await;
    let wrong =
        olga.post("/channels/new", &[("name", "hook"), ("way", "hook"), ("least", "x")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.has("href=\"#url\"") && wrong.has("href=\"#least\""), "{}", wrong.body);
    let hook = [
        ("name", "hook"),
        ("way", "hook"),
        ("least", "warning"),
        ("url", "http://127.0.0.1:9/hook"),
        ("secret", "hunter2"),
    ];
    let path = olga.post("/channels/new", &hook).await.to().to_owned();
    let shown = olga.get(&path).await;
    assert!(shown.page().contains("the one that is kept stays") && !shown.has("hunter2"));
    let tried = olga.post(&format!("{path}/test"), &[]).await;
    assert!(tried.page().contains("It was not delivered"), "{}", tried.body);
    assert!(tried.has("127.0.0.1 may not be reached: it is the panel itself"), "{}", tried.body);
    let version = tried.after("name=\"version\" value=\"");
    let private = [hook.as_slice(), &[("private", "on"), ("version", &version)]].concat();
    let refused = olga.post(&path, &private).await;
    assert!(refused.has("only a superadmin") && !refused.has("hunter2"), "{}", refused.body);
    assert_eq!(olga.post(&format!("{path}/delete"), &[("name", "hook")]).await.to(), "/channels");
    assert!(olga.get("/channels").await.page().contains("There are no channels yet"));
}

#[tokio::test]
async fn a_superadmin_sets_the_panel_and_takes_a_backup_that_opens() {
    let (rig, school) = pair().await;
    let root = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut ada = rig.seat(root).await;
    let version = ada.get("/settings").await.after("name=\"version\" value=\"");
    let notices_of = school.organization.to_string();
    let fields = [
        ("version", version.as_str()),
        ("session_hours", "2"),
        ("public_names", "panel.example.org"),
        ("notices_of", &notices_of),
    ];
    assert_eq!(ada.post("/settings", &fields).await.to(), "/settings");
    assert_eq!(rig.panel().settings_in_force().unwrap().session_hours, 2);
    let late = ada.post("/settings", &fields).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    let short = ada.post("/settings/backup", &[("pass_phrase", "short"), ("again", "x")]).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    let phrase = "correct horse battery";
    let made = ada.post("/settings/backup", &[("pass_phrase", phrase), ("again", phrase)]).await;
    assert_eq!(made.status, StatusCode::OK);
    assert!(made.body.starts_with("age-encryption.org/v1"), "{:.40}", made.body);
    assert!(ada.get("/settings").await.page().contains("The last one was made"));
}
