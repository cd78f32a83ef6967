//! From a new panel to a room that runs, as the first admin walks it.

use std::fmt::Write as _;

use panel::{
    noun::{Device, Network, Organization, Place},
    store::ListQuery,
};
use serde_json::json;

use crate::{
    rig::{ROOT, Rig},
    tab::Tab,
};

pub(crate) const PASSWORD: &str = "quiet-otter-mends-lanterns";

/// The one-time code makes the first account.
pub(crate) async fn first_start(rig: &Rig, tab: &mut Tab) {
    tab.go("/").await;
    tab.arrives("/first-start").await;
    tab.look("first-start").await;
    restore_what_is_no_backup(rig, tab).await;
    tab.go("/first-start").await;
    tab.fill("code", "AAAAA-AAAAA").await;
    tab.fill("full_name", "Ada Lovelace").await;
    tab.fill("name", "ada").await;
    tab.fill("password", PASSWORD).await;
    tab.fill("again", PASSWORD).await;
    tab.press("Make the account").await;
    tab.says("not the code that the panel shows").await;
    tab.hear("a wrong code", &["422"]).await;
    tab.look("first-start-refused").await;
    tab.fill("code", &rig.code).await;
    tab.fill("password", PASSWORD).await;
    tab.fill("again", PASSWORD).await;
    tab.press("Make the account").await;
    tab.arrives("/").await;
    tab.says("From nothing to a booted device").await;
    tab.look("dashboard-new").await;
}

/// What it says of a file that is no backup; the form can be used again.
async fn restore_what_is_no_backup(rig: &Rig, tab: &mut Tab) {
    tab.go("/first-start").await;
    tab.follow("restores a backup").await;
    tab.arrives("/first-start/restore").await;
    tab.look("first-start-restore").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("holiday.age");
    #[expect(clippy::disallowed_methods, reason = "a file of the person at the browser")]
    std::fs::write(&file, "no backup").unwrap();
    tab.fill("code", &rig.code).await;
    tab.fill("pass_phrase", "nine lanterns for otters").await;
    tab.one("#file").await.send_keys(file.to_str().unwrap()).await.unwrap();
    tab.press("Restore").await;
    tab.says("this is not a backup").await;
    tab.hear("no backup", &["422"]).await;
    tab.look("first-start-restore-refused").await;
}

/// Follows the dashboard's guide as far as it goes without hardware.
pub(crate) async fn follow_the_guide(rig: &Rig, tab: &mut Tab) -> i64 {
    step(tab, "Make an organization", &[("name", "Riverside School")]).await;
    step(tab, "Make a network", &[("name", "north")]).await;
    let network = the_network(rig);
    empty_lists(tab, network).await;
    let subnet = [
        ("name", "lab"),
        ("subnet", "10.77.0.0/16"),
        ("gateway", "10.77.0.254"),
        ("dhcp.first", "10.77.255.1"),
        ("dhcp.last", "10.77.255.99"),
    ];
    step(tab, "Describe its subnet", &subnet).await;
    tab.go(&format!("/networks/{network}/servers/new")).await;
    let server = [
        ("name", "agent-1"),
        ("interfaces[0].subnet", "lab"),
        ("interfaces[0].interface", "52:54:00:00:00:01"),
        ("interfaces[0].address", "10.77.0.1"),
        ("pools[0].name", "tank"),
        ("pools[0].disks", "disk-a"),
    ];
    fill_all(tab, &server).await;
    tab.tick("primary").await;
    tab.press("What will change?").await;
    tab.says("What will change").await;
    tab.look("server-new-preview").await;
    tab.press("Create").await;
    let volume = [("name", "debian"), ("pool", "tank"), ("size_bytes", "40 GiB")];
    begin(tab, "Make a volume from an image", &volume).await;
    begin(tab, "Make a group of it", &[("name", "lab"), ("volume", "debian")]).await;
    tab.go(&format!("/networks/{network}/groups/new")).await;
    fill_all(tab, &[("name", "exam"), ("volume", "debian")]).await;
    tab.press("Create").await;
    network
}

fn the_network(rig: &Rig) -> i64 {
    rig.panel().list::<Network>(ROOT, &ListQuery::default()).unwrap().rows[0].id.number()
}

/// A step of the guide: from the dashboard by its link to a form, and back to see it done.
async fn step(tab: &mut Tab, link: &str, fields: &[(&str, &str)]) {
    begin(tab, link, fields).await;
    tab.go("/").await;
    let done = format!("//li[contains(@class, 'done')]//a[normalize-space()='{link}']");
    assert!(tab.has(&done).await, "{link:?} is not done:\n{}", tab.text().await);
}

/// A step that is done when a server shows it.
async fn begin(tab: &mut Tab, link: &str, fields: &[(&str, &str)]) {
    tab.go("/").await;
    tab.follow(link).await;
    fill_all(tab, fields).await;
    tab.press("Create").await;
}

async fn fill_all(tab: &Tab, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        tab.fill(name, value).await;
    }
}

async fn empty_lists(tab: &mut Tab, network: i64) {
    for list in ["devices", "tree", "vdisks", "servers", "menus", "settings"] {
        tab.go(&format!("/networks/{network}/{list}")).await;
        tab.look(&format!("empty-{list}")).await;
    }
}

/// A spreadsheet of 200 devices: refused while a line is wrong, and then taken whole.
pub(crate) async fn import(rig: &Rig, tab: &mut Tab, network: i64) {
    let devices = |count| {
        let mut text = String::from("name,macs,subnet,address,group,boot_mode\n");
        for number in 1..=count {
            let mac = format!("52:54:00:01:00:{number:02x}");
            writeln!(text, "pc-{number:03},{mac},lab,,lab,overlay").unwrap();
        }
        text
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("room.csv");
    let faulty = devices(200).replace("52:54:00:01:00:07", "52:54:00:01:00:zz");
    tab.go(&format!("/networks/{network}/devices")).await;
    tab.follow("Import").await;
    for (text, button) in [(faulty, None), (devices(200), Some("Import"))] {
        #[expect(clippy::disallowed_methods, reason = "a file of the person at the browser")]
        std::fs::write(&file, text).unwrap();
        tab.one("#file").await.send_keys(file.to_str().unwrap()).await.unwrap();
        tab.press("Look at it").await;
        let Some(button) = button else {
            tab.says("1 of 200 lines can't be: nothing is imported").await;
            tab.hear("a faulty spreadsheet", &["422"]).await;
            tab.look("import-faulty").await;
            continue;
        };
        tab.says("200 new").await;
        tab.look("import").await;
        tab.press(button).await;
    }
    tab.arrives(&format!("/networks/{network}/devices")).await;
    tab.says("200 devices").await;
    assert_eq!(rig.panel().count::<Device>(ROOT, &ListQuery::default()).unwrap(), 200);
}

/// A page of devices gets another group at once.
pub(crate) async fn assign(rig: &Rig, tab: &mut Tab, network: i64) {
    tab.go(&format!("/networks/{network}/devices")).await;
    tab.one("[data-pick-all]").await.click().await.unwrap();
    tab.press("Change …").await;
    tab.says("Change 50 devices").await;
    tab.look("bulk-change").await;
    tab.fill("group", "exam").await;
    tab.press("Change").await;
    let exam = ListQuery { filters: vec![("group".into(), "exam".into())], ..ListQuery::default() };
    assert_eq!(rig.panel().count::<Device>(ROOT, &exam).unwrap(), 50);
    tab.fill("group", "exam").await;
    tab.says("50 devices").await;
    assert_eq!(tab.path().await.split_once("group=").unwrap().1.split('&').next(), Some("exam"));
}

/// Two people change one device: the second one is told.
pub(crate) async fn overtaken(rig: &Rig, tab: &mut Tab) {
    let device = rig.panel().list::<Device>(ROOT, &ListQuery::default()).unwrap().rows.remove(0);
    tab.go(&format!("/devices/{}/edit", device.id)).await;
    let mut theirs = device.value.clone();
    theirs.test = true;
    rig.panel().change(ROOT, device.id, device.version, theirs).unwrap();
    tab.fill("pinned", "1").await;
    tab.press("Save").await;
    tab.says("Somebody else changed this while you did").await;
    tab.hear("overtaken", &["409"]).await;
    tab.look("device-overtaken").await;
}

/// A technician gets an account and a role, and is refused everywhere else.
pub(crate) async fn technician(rig: &Rig, tab: &mut Tab, network: i64) {
    let elsewhere = Place::Organization(
        rig.make::<Organization>(Place::Panel, json!({ "name": "Hillside School" })),
    );
    let south = rig.make::<Network>(elsewhere, json!({ "name": "south" }));
    tab.go("/users").await;
    tab.follow("New user").await;
    let user = [
        ("organization", "Riverside School"),
        ("name", "tina"),
        ("full_name", "Tina Technician"),
        ("roles[0].network", "north"),
        ("roles[0].role", "Technician: looks after its devices"),
    ];
    fill_all(tab, &user).await;
    tab.press("Create").await;
    tab.says("Password of Tina Technician").await;
    tab.press("Make a password").await;
    tab.look("password-made").await;
    let password = tab.one(".secret code").await.text().await.unwrap();
    sign_out(tab).await;
    sign_in(tab, "tina", &password).await;
    tab.says("north").await;
    assert!(!tab.text().await.contains("south"), "another organization's network is not shown");
    tab.go(&format!("/networks/{network}/devices")).await;
    tab.says("200 devices").await;
    let refused = [
        ("/users".to_owned(), "You may not do this"),
        (format!("/networks/{network}/groups/new"), "You may not do this"),
        (format!("/networks/{south}/devices"), "There is nothing here"),
    ];
    for (path, words) in refused {
        tab.go(&path).await;
        tab.says(words).await;
    }
    tab.hear("refused", &["403", "404"]).await;
    tab.look("refused").await;
    sign_out(tab).await;
    sign_in(tab, "ada", PASSWORD).await;
}

/// Comes in by name and password.
pub(crate) async fn sign_in(tab: &Tab, name: &str, password: &str) {
    tab.go("/sign-in").await;
    tab.fill("name", name).await;
    tab.fill("password", password).await;
    tab.press("Sign in").await;
    tab.arrives("/").await;
}

/// Goes out by the menu of the account.
pub(crate) async fn sign_out(tab: &Tab) {
    tab.one("details.account summary").await.click().await.unwrap();
    tab.press("Sign out").await;
    tab.arrives("/sign-in").await;
}
