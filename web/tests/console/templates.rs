//! What holds for every page and every template.

use std::{collections::BTreeSet, fs, path::Path};

use panel::noun::{Device, Place};
use serde_json::json;

use crate::rig::{Browser, Rig, device, school};

const HOSTILE: &str = "<img src=x onerror=alert(1)>\"'&{{7*7}}";

/// What a strict content security policy would not run, and what escaping has to stop.
fn clean(path: &str, body: &str) {
    for tag in body.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let name = tag.split(|c: char| c.is_whitespace()).next().unwrap();
        assert!(name != "script" || tag.contains(" src="), "{path}: inline script <{tag}>");
        assert!(name != "style", "{path}: inline style <{tag}>");
        let outside = tag.split('"').step_by(2).collect::<String>();
        for word in outside.split_whitespace().skip(1) {
            assert!(!word.starts_with("style="), "{path}: inline style <{tag}>");
            assert!(!word.starts_with("on"), "{path}: inline handler <{tag}>");
            assert!(!word.starts_with("hx-on"), "{path}: inline handler <{tag}>");
        }
    }
    assert!(!body.contains("<img src=x"), "{path}: a name was not escaped");
}

/// Every page that a person can be at who may do all.
async fn pages(browser: &mut Browser) -> Vec<String> {
    let fixed = [
        "/",
        "/networks",
        "/organizations",
        "/users",
        "/tunnels",
        "/alerts",
        "/channels",
        "/channels/new",
        "/settings",
        "/jobs",
        "/audit",
        "/certificates",
        "/joins",
        "/account",
        "/account/totp",
        "/account/certificates",
        "/search?q=a",
        "/nothing",
    ];
    let mut found: BTreeSet<String> = fixed.map(str::to_owned).into();
    let mut left: Vec<String> = found.iter().cloned().collect();
    let mut seen = Vec::new();
    while let Some(path) = left.pop() {
        let answer = browser.get(&path).await;
        assert!(answer.status.as_u16() < 500, "{path}: {}", answer.status);
        clean(&path, &answer.body);
        for link in answer.body.split("href=\"/").skip(1).filter_map(|rest| rest.split('"').next())
        {
            let link = format!("/{}", link.replace("&#38;", "&").replace("&amp;", "&"));
            let (bare, _) = link.split_once('?').unwrap_or((&link, ""));
            let other = bare.starts_with("/static")
                || bare.starts_with("/certificates/root")
                || bare.starts_with("/crl.")
                || bare.ends_with(".csv");
            if !other && found.insert(bare.to_owned()) {
                left.push(bare.to_owned());
            }
        }
        seen.push(path);
    }
    seen
}

#[tokio::test]
async fn every_page_that_links_lead_to_is_there_and_has_nothing_inline() {
    let rig = Rig::new().await;
    let school = school(&rig, HOSTILE);
    rig.make::<Device>(school.at(), device(10));
    rig.make::<panel::noun::Menu>(
        school.at(),
        json!({ "name": "odd", "title": HOSTILE,
        "entries": [{ "label": HOSTILE, "action": "image" }] }),
    );
    rig.make::<panel::noun::Tunnel>(
        Place::Panel,
        json!({ "name": "relay", "host": "relay.example", "port": 22 }),
    );
    rig.make::<panel::noun::User>(
        school.home(),
        json!({ "name": "eve", "full_name": HOSTILE, "standing": "member" }),
    );
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    let seen = pages(&mut browser).await;
    assert!(seen.len() > 45, "{}: {seen:?}", seen.len());
    let shown = browser.get("/organizations").await;
    assert!(shown.has("&#60;img src=x onerror=alert(1)&#62;"), "{}", shown.body);
    for path in seen.iter().filter(|path| *path != "/nothing") {
        let answer = browser.get(path).await;
        let fine = answer.status.is_success() || answer.status.is_redirection();
        // The log links to what is gone, too.
        assert!(fine || path.split('/').count() == 3, "{path}: {}", answer.status);
    }
}

#[test]
fn every_template_is_used_and_none_has_anything_inline() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut templates = Vec::new();
    walk(&root.join("src"), &mut |path| sources.push_str(&fs::read_to_string(path).unwrap()));
    walk(&root.join("templates"), &mut |path| {
        let text = fs::read_to_string(path).unwrap();
        clean(&path.display().to_string(), &text.replace("{%", "").replace("%}", ""));
        let name = path.strip_prefix(root.join("templates")).unwrap().display().to_string();
        templates.push((name, text));
    });
    let used = |name: &str| {
        let quoted = format!("\"{name}\"");
        sources.contains(&format!("path = {quoted}"))
            || templates.iter().any(|(_, text)| text.contains(&quoted))
    };
    let unused: Vec<_> = templates.iter().filter(|(name, _)| !used(name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
    assert!(templates.len() > 30);
}

fn walk(folder: &Path, with: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, with) } else { with(&path) }
    }
}
