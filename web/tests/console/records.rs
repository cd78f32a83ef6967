use axum::http::StatusCode;
use panel::{
    noun::{Device, Group, Id, Menu, Network, Organization, Place, User},
    store::ListQuery,
};
use serde_json::json;

use crate::rig::{ROOT, Rig, device, school, value};

#[tokio::test]
async fn somebody_comes_from_nothing_to_a_device_by_forms_alone() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    assert!(browser.get("/").await.page().contains("From nothing to a booted device"));
    assert_eq!(
        browser.post("/organizations/new", &[("name", "School")]).await.to(),
        "/organizations"
    );
    let organizations = rig.panel().list::<Organization>(ROOT, &ListQuery::default()).unwrap().rows;
    let organization = organizations[0].id.to_string();
    let network = [("name", "north"), ("organization", organization.as_str()), ("tunnels", "")];
    let network = browser.post("/networks/new", &network).await.to().to_owned();
    let tabs = browser.get(&network).await.to().to_owned();
    assert_eq!(tabs, format!("{network}/devices"));
    let subnet = [
        ("name", "lab"),
        ("subnet", "10.77.0.0/24"),
        ("dhcp", "authoritative"),
        ("dhcp.first", "10.77.0.200"),
        ("dhcp.last", "10.77.0.250"),
    ];
    assert_eq!(
        browser.post(&format!("{network}/subnets/new"), &subnet).await.to(),
        format!("{network}/settings")
    );
    let server = [
        ("name", "agent-1"),
        ("role", "both"),
        ("primary", "on"),
        ("interfaces[0].subnet", "lab"),
        ("interfaces[0].interface", "52:54:00:00:00:01"),
        ("interfaces[0].address", "10.77.0.1"),
        ("pools[0].name", "tank"),
        ("pools[0].layout", "mirror"),
        ("pools[0].disks", "A\r\nB"),
        ("pools[0].overwrite", ""),
    ];
    assert!(
        browser
            .post(&format!("{network}/servers/new"), &server)
            .await
            .to()
            .starts_with("/servers/")
    );
    let volume =
        [("name", "debian"), ("pool", "tank"), ("size_bytes", "8 GiB"), ("source.location", "")];
    assert_eq!(
        browser.post(&format!("{network}/volumes/new"), &volume).await.to(),
        format!("{network}/tree")
    );
    let group = [("name", "lab"), ("volume", "debian"), ("generations", "1"), ("production", "1")];
    assert_eq!(
        browser.post(&format!("{network}/groups/new"), &group).await.to(),
        format!("{network}/tree")
    );
    let offered = browser.get(&format!("{network}/devices/new")).await;
    assert_eq!(
        offered.after("name=\"address\" aria-describedby=\"address-help\" value=\""),
        "10.77.0.2"
    );
    let device = [
        ("name", "pc-01"),
        ("macs", "52:54:00:00:01:01"),
        ("network", "lab"),
        ("address", "10.77.0.2"),
        ("group", "lab"),
        ("boot_mode", "overlay"),
        ("on_failure", "retry"),
    ];
    let made = browser.post(&format!("{network}/devices/new"), &device).await.to().to_owned();
    assert!(browser.get(&made).await.page().contains("overlay of"));
    assert!(browser.get(&format!("{network}/tree")).await.page().contains("1 device boots it"));
}

#[tokio::test]
async fn a_bad_form_comes_back_filled_in_with_messages_at_the_fields() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let fields = [
        ("name", "PC 1"),
        ("macs", "zz"),
        ("network", "lab"),
        ("address", "10.77.0.1"),
        ("group", "lab"),
        ("boot_mode", "overlay"),
        ("on_failure", "retry"),
    ];
    let new = format!("/networks/{}/devices/new", school.network);
    let bad = browser.post(&new, &fields).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.has("value=\"PC 1\"") && bad.has("value=\"zz\""), "{}", bad.body);
    assert_eq!(bad.body.matches("aria-invalid=\"true\"").count(), 2, "{}", bad.body);
    let taken = fields.map(|(name, value)| match name {
        "name" => (name, "pc-1"),
        "macs" => (name, "52:54:00:00:01:01"),
        _ => (name, value),
    });
    let taken = browser.post(&new, &taken).await;
    assert_eq!(taken.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(taken.has("10.77.0.1 is taken: the server agent-1 of north has it"), "{}", taken.body);
}

#[tokio::test]
async fn two_who_change_the_same_find_out() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let menus = rig.panel().list::<Menu>(ROOT, &ListQuery::default()).unwrap().rows;
    let (id, path) = (menus[0].id, format!("/menus/{}", menus[0].id));
    let (mut one, mut two) = (rig.seat(user).await, rig.seat(user).await);
    let fields = |title: &'static str, version: &'static str| {
        [
            ("version", version),
            ("name", "main"),
            ("title", title),
            ("timeout_s", "0"),
            ("default", "1"),
            ("entries[0].label", "Boot"),
            ("entries[0].action", "image"),
        ]
    };
    assert_eq!(one.get(&path).await.after("name=\"version\" value=\""), "1");
    assert_eq!(
        one.post(&path, &fields("Mine", "1")).await.to(),
        format!("/networks/{}/menus", school.network)
    );
    let late = two.post(&path, &fields("Theirs", "1")).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(
        late.has("Somebody else changed this") && late.has("<td>Theirs</td><td>Mine</td>"),
        "{}",
        late.body
    );
    assert_eq!(rig.panel().get(ROOT, id).unwrap().value.title, "Mine");
    assert_eq!(late.after("name=\"version\" value=\""), "2", "saving again is on purpose");
    two.post(&path, &fields("Theirs", "2")).await.to();
    assert_eq!(rig.panel().get(ROOT, id).unwrap().value.title, "Theirs");
}

#[tokio::test]
async fn what_will_change_is_shown_and_nothing_is_changed() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    rig.make::<Device>(school.at(), device(10));
    rig.panel().publish().unwrap();
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let groups = rig.panel().list::<Group>(ROOT, &ListQuery::default()).unwrap().rows;
    let path = format!("/groups/{}", groups[0].id);
    let fields = [
        ("version", "1"),
        ("name", "lab"),
        ("volume", "debian"),
        ("generations", "1 2"),
        ("production", "2"),
        ("test", "2"),
        ("preview", "1"),
    ];
    let shown = browser.post(&path, &fields).await;
    assert!(shown.page().contains("What will change") && shown.has("agent-1"), "{}", shown.body);
    assert!(shown.has("It gets a new document"), "{}", shown.body);
    assert_eq!(rig.panel().get(ROOT, groups[0].id).unwrap().version, 1);
}

#[tokio::test]
async fn deleting_shows_what_hangs_on_it_and_asks_for_the_name() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let id = rig.make::<Device>(school.at(), device(10));
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let network = format!("/networks/{}/delete", school.network);
    let shown = browser.get(&network).await;
    assert!(
        shown.page().contains("while these hang on it")
            && shown.has("pc-10")
            && shown.has("agent-1")
    );
    let refused = browser.post(&network, &[("name", "north"), ("version", "1")]).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let path = format!("/devices/{id}/delete");
    let wrong = browser.post(&path, &[("name", "pc-11"), ("version", "1")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.has("this is not its name"));
    let gone =
        browser.post(&path, &[("name", "pc-10"), ("version", "1"), ("data", "destroy")]).await;
    assert_eq!(gone.to(), format!("/networks/{}/devices", school.network));
    assert_eq!(browser.get(&format!("/devices/{id}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_may_only_see_is_shown_a_form_that_is_locked() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let viewer = rig.user(school.home(), "vera", "member", Some("viewer"));
    let mut browser = rig.seat(viewer).await;
    let menus = rig.panel().list::<Menu>(ROOT, &ListQuery::default()).unwrap().rows;
    let path = format!("/menus/{}", menus[0].id);
    let shown = browser.get(&path).await;
    assert!(shown.page().contains("<fieldset class=\"plain\" disabled>"), "{}", shown.body);
    assert!(!shown.has(">Save<") && !shown.has("Delete …"));
    let refused = browser.post(&path, &[("version", "1"), ("name", "x")]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_user_is_given_an_organization_and_roles() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let organization = school.organization.to_string();
    let fields = [
        ("organization", organization.as_str()),
        ("name", "tina"),
        ("full_name", "Tina"),
        ("standing", "member"),
        ("roles[0].network", "north"),
        ("roles[0].role", "technician"),
        ("roles[1].network", ""),
        ("roles[1].role", "viewer"),
    ];
    let made = browser.post("/users/new", &fields).await;
    let query = ListQuery { search: Some("tina".into()), ..ListQuery::default() };
    let tina = &rig.panel().list::<User>(ROOT, &query).unwrap().rows[0];
    assert_eq!(made.to(), format!("/users/{}/password", tina.id));
    assert_eq!(tina.place, school.home());
    assert_eq!(tina.value.roles.len(), 1);
    assert!(browser.get("/users").await.page().contains("north: technician"));
}

#[tokio::test]
async fn the_log_shows_what_a_change_changed() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let renamed: Network = value(json!({ "name": "south" }));
    rig.panel().change(ROOT, Id::<Network>::new(school.network.number()), 1, renamed).unwrap();
    let log = browser.get("/audit?noun=network").await;
    assert!(log.page().contains("<del>north</del>") && log.has("<ins>south</ins>"), "{}", log.body);
    assert!(!log.has("agent-1"), "the filter holds");
}
