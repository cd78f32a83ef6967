use axum::http::{Method, StatusCode};
use panel::{
    noun::{Device, Place},
    store::ListQuery,
};

use crate::rig::{Browser, ROOT, Rig, School, device, school};

async fn at_school(rig: &Rig) -> (School, Browser, String) {
    let school = school(rig, "Example School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let list = format!("/networks/{}/devices", school.network);
    (school, rig.seat(user).await, list)
}

#[tokio::test]
async fn a_list_shows_nothing_one_and_thousands_of_rows() {
    let rig = Rig::new().await;
    let (school, mut browser, list) = at_school(&rig).await;
    assert!(browser.get(&list).await.page().contains("This network has no devices yet"));
    rig.make::<Device>(school.at(), device(10));
    let one = browser.get(&list).await;
    assert!(one.page().contains("pc-10") && one.has(">1 device<"), "{}", one.body);
    let mut csv = String::from("name,macs,subnet,group,boot_mode\n");
    for number in 0..4999 {
        csv.push_str(&format!(
            "n{number:04},02:00:00:00:{:02x}:{:02x},lab,lab,overlay\n",
            number >> 8,
            number & 255
        ));
    }
    rig.panel().import(ROOT, school.network, &csv).unwrap();
    let many = browser.get(&list).await;
    assert!(many.page().contains("5000 devices"), "{}", many.body);
    assert_eq!(many.body.matches("name=\"device\"").count(), 50);
    assert!(many.has("n0000") && !many.has("n0050"));
    let next = browser.get(&next(&many.body)).await;
    assert!(next.page().contains("n0050") && next.has("First page"));
    let last = browser.get(&format!("{list}?sort=name&descending=1")).await;
    assert!(last.page().contains("pc-10") && last.has("aria-sort=\"descending\""));
    let found = browser.get(&format!("{list}?q=N4998")).await;
    assert!(found.page().contains("n4998") && found.has(">1 device<"), "{}", found.body);
    let none = browser.get(&format!("{list}?q=nothing")).await;
    assert!(none.page().contains("No device is like this"));
    let group = browser.get(&format!("{list}?group=lab&boot_mode=overlay")).await;
    assert!(group.page().contains("5000 devices"));
}

fn next(body: &str) -> String {
    let end = body.find("\">Next page").unwrap();
    let start = body[..end].rfind("href=\"").unwrap() + 6;
    body[start..end].replace("&#38;", "&")
}

#[tokio::test]
async fn the_part_is_the_same_as_in_the_page() {
    let rig = Rig::new().await;
    let (school, mut browser, list) = at_school(&rig).await;
    rig.make::<Device>(school.at(), device(10));
    let tabs = ["devices", "vdisks", "servers", "menus", "settings", "tree"];
    let tabs = tabs.map(|tab| format!("/networks/{}/{tab}", school.network));
    let others =
        ["/networks", "/organizations", "/users", "/tunnels", "/jobs", "/audit", "/search?q=pc"];
    for path in tabs.iter().map(String::as_str).chain(others) {
        let (page, part) = (browser.get(path).await, browser.part(path).await);
        assert!(!part.page().contains("<html"), "{path}");
        // What is told in seconds may differ between two looks.
        let part = part.body.trim();
        assert!(page.page().contains(part), "{path}: {part}");
    }
    let boosted = [("hx-request", "true"), ("hx-boosted", "true")];
    let whole = browser.send(Method::GET, &list, &boosted, String::new()).await;
    assert!(whole.page().contains("<html"));
}

#[tokio::test]
async fn a_spreadsheet_is_looked_at_before_it_is_imported_whole_or_not_at_all() {
    let rig = Rig::new().await;
    let (school, mut browser, list) = at_school(&rig).await;
    let count = || rig.panel().count::<Device>(ROOT, &ListQuery::default()).unwrap();
    let path = format!("{list}/import");
    let bad = "name,macs,subnet,group,boot_mode\npc-01,02:00:00:00:00:01,lab,lab,overlay\npc-02,02:00:00:00:00:01,lab,none,overlay\n";
    let looked = browser.post(&path, &[("text", bad)]).await;
    assert!(looked.page().contains("1 of 2 lines can"), "{}", looked.body);
    assert!(looked.has("there is no group none"), "{}", looked.body);
    let tried = browser.post(&path, &[("text", bad), ("sure", "1")]).await;
    assert_eq!(tried.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(count(), 0);
    let good = bad.replace(",none,", ",lab,").replacen(
        ":01,lab,lab,overlay\npc-02,02:00:00:00:00:01",
        ":01,lab,lab,overlay\npc-02,02:00:00:00:00:02",
        1,
    );
    let looked = browser.post(&path, &[("text", &good)]).await;
    assert!(looked.page().contains("2 new, 0 changed, 0 as they are"), "{}", looked.body);
    assert_eq!(count(), 0, "looking changes nothing");
    assert_eq!(browser.post(&path, &[("text", &good), ("sure", "1")]).await.to(), list);
    assert_eq!(count(), 2);
    let csv = browser.get(&format!("/networks/{}/devices.csv", school.network)).await;
    assert!(csv.page().starts_with("name,macs,subnet,address"), "{}", csv.body);
    assert!(csv.headers["content-disposition"].to_str().unwrap().contains("north-devices.csv"));
    let again = browser.post(&path, &[("text", &csv.body)]).await;
    assert!(again.page().contains("0 new, 0 changed, 2 as they are"), "{}", again.body);
}

#[tokio::test]
async fn a_file_is_taken_as_browsers_send_files() {
    let rig = Rig::new().await;
    let (_, mut browser, list) = at_school(&rig).await;
    let csv = "name,macs,subnet,group,boot_mode\npc-01,02:00:00:00:00:01,lab,lab,overlay\n";
    let part = |head: &str, value: &str| {
        format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    };
    let token = browser.csrf.clone();
    let body = part("name=\"csrf\"", &token)
        + &part("name=\"file\"; filename=\"pcs.csv\"", csv)
        + "--x--\r\n";
    let headers =
        [("content-type", "multipart/form-data; boundary=x"), ("sec-fetch-site", "same-origin")];
    let looked =
        browser.send(Method::POST, &format!("{list}/import"), &headers, body.clone()).await;
    assert!(looked.page().contains("1 new, 0 changed"), "{}", looked.body);
    let forged = body.replace(&token, "00");
    let refused = browser.send(Method::POST, &format!("{list}/import"), &headers, forged).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn many_devices_are_changed_and_deleted_together() {
    let rig = Rig::new().await;
    let (school, mut browser, list) = at_school(&rig).await;
    let ids: Vec<_> =
        (10..13).map(|number| rig.make::<Device>(school.at(), device(number))).collect();
    let ticks =
        |version: u64| -> Vec<String> { ids.iter().map(|id| format!("{id}:{version}")).collect() };
    let bulk = format!("{list}/bulk");
    let with =
        |ticks: &[String], more: &[(&'static str, &'static str)]| -> Vec<(&'static str, String)> {
            let ticks = ticks.iter().map(|tick| ("device", tick.clone()));
            ticks.chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
        };
    async fn post(
        browser: &mut Browser,
        path: &str,
        fields: &[(&str, String)],
    ) -> crate::rig::Answer {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        browser.post(path, &fields).await
    }
    let asked = post(&mut browser, &bulk, &with(&ticks(1), &[("do", "change")])).await;
    assert!(asked.page().contains("Change 3 devices") && asked.has("pc-12"), "{}", asked.body);
    let refused = post(
        &mut browser,
        &bulk,
        &with(&ticks(1), &[("do", "change"), ("sure", "1"), ("pinned", "9")]),
    )
    .await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.has("pc-10.pinned"), "{}", refused.body);
    let changed = post(
        &mut browser,
        &bulk,
        &with(&ticks(1), &[("do", "change"), ("sure", "1"), ("boot_mode", "persistent")]),
    )
    .await;
    assert_eq!(changed.to(), list);
    let listed = browser.get(&format!("{list}?boot_mode=persistent")).await;
    assert!(listed.page().contains("3 devices"));
    let late = post(
        &mut browser,
        &bulk,
        &with(&ticks(1), &[("do", "delete"), ("sure", "1"), ("count", "3")]),
    )
    .await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    let unsure = post(
        &mut browser,
        &bulk,
        &with(&ticks(2), &[("do", "delete"), ("sure", "1"), ("count", "2")]),
    )
    .await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    let gone = post(
        &mut browser,
        &bulk,
        &with(&ticks(2), &[("do", "delete"), ("sure", "1"), ("count", "3")]),
    )
    .await;
    assert_eq!(gone.to(), list);
    assert!(browser.get(&list).await.page().contains("no devices yet"));
}

#[tokio::test]
async fn search_finds_what_somebody_may_see() {
    let rig = Rig::new().await;
    let (school, mut browser, _) = at_school(&rig).await;
    rig.make::<Device>(school.at(), device(10));
    let found = browser.get("/search?q=52:54:00:00:01").await;
    assert!(found.page().contains("pc-10") && found.has("in north"), "{}", found.body);
    let stranger = rig.user(school.home(), "nemo", "member", None);
    let mut stranger = rig.seat(stranger).await;
    let found = stranger.get("/search?q=pc-10").await;
    assert!(found.page().contains("Nothing is like this"), "{}", found.body);
}
