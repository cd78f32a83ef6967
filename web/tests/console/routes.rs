//! Every route with every role.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{Method, StatusCode};
use clusterducks_panel::{
    api::PREFIX,
    routes::{Door, table},
};
use panel::{
    noun::{Device, Id, Network, Organization, Place, User},
    operations::{Actor, ChannelSecret, Kind},
    password::Passwords,
    secret::ExposeSecret as _,
    store::ListQuery,
};
use serde_json::json;

use crate::{
    answers::{ANSWERS, WALKERS},
    api::{ALL, API_ANSWERS, Program},
    rig::{Browser, ROOT, Rig, School, device, school},
};

fn letter(status: StatusCode) -> char {
    match status.as_u16() {
        200 => 'o',
        201 => 'c',
        204 => 'd',
        303 => 's',
        400 => 'b',
        401 => 'u',
        403 => 'f',
        404 => 'n',
        409 => 'h',
        412 => 'p',
        422 => 'i',
        _ => '?',
    }
}

fn first<T: Kind>(rig: &Rig) -> String {
    rig.panel().list::<T>(ROOT, &ListQuery::default()).unwrap().rows[0].id.to_string()
}

/// A channel of the school's, which reaches nobody: it is the panel itself that it leads to.
fn channel(rig: &Rig, school: &School) -> String {
    let known = rig.panel().channels(ROOT).unwrap();
    if let Some(channel) = known.first() {
        return channel.id.to_string();
    }
    let value =
        json!({ "name": "hook", "least": "info", "way": "hook", "url": "https://127.0.0.1:9/" });
    let (value, secret) = (crate::rig::value(value), ChannelSecret::Keep);
    let made =
        rig.panel().create_channel(ROOT, school.organization, &value, &secret, rig.app.box_key());
    made.unwrap().to_string()
}

/// The path with the numbers of the school's own records.
fn filled(rig: &Rig, school: &School, job: i64, path: &str) -> String {
    use panel::noun::{Group, Menu, Server, Subnet, Tunnel, Vdisk, Volume};
    let own = path.strip_prefix(PREFIX).unwrap_or(path);
    let id = match own.split('/').nth(1).unwrap() {
        "organizations" => school.organization.to_string(),
        "users" => {
            let query = ListQuery { search: Some("paul".into()), ..ListQuery::default() };
            rig.panel().list::<User>(ROOT, &query).unwrap().rows[0].id.to_string()
        }
        "networks" => school.network.to_string(),
        "subnets" => first::<Subnet>(rig),
        "tunnels" => first::<Tunnel>(rig),
        "servers" => first::<Server>(rig),
        "volumes" => first::<Volume>(rig),
        "groups" => first::<Group>(rig),
        "vdisks" => first::<Vdisk>(rig),
        "menus" => first::<Menu>(rig),
        "devices" => first::<Device>(rig),
        "jobs" => job.to_string(),
        "channels" => channel(rig, school),
        _ => "999".to_owned(),
    };
    let path = path.replace("{id}", &id).replace("{network}", &school.network.to_string());
    // The panel's own, which is for superadmins: a server's is like its server.
    let own = panel::store::BookedQuery::default();
    let own = rig.panel().issued(ROOT, &own).unwrap().rows[0].serial.to_string();
    let path = path.replace("{serial}", &own);
    let path = path.replace("{organization}", &school.organization.to_string());
    path.replace("{code}", "999").replace("{file}", "nothing.css")
}

async fn status(browser: &mut Browser, method: &Method, path: &str) -> StatusCode {
    let body = format!("csrf={}", browser.csrf);
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
        ("connection", "close"),
    ];
    let request = browser.request(method.clone(), path, &headers, body);
    // The body is not waited for: one of them never ends.
    browser.connect().await.send_request(request).await.unwrap().status()
}

#[tokio::test]
async fn every_route_answers_every_role_as_was_decided() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    rig.make::<Device>(school.at(), device(10));
    rig.make::<panel::noun::Tunnel>(
        Place::Panel,
        // Where nobody answers, and says so at once.
        json!({ "name": "relay", "host": "127.0.0.1", "port": 22 }),
    );
    let elsewhere =
        Place::Organization(rig.make::<Organization>(Place::Panel, json!({ "name": "Elsewhere" })));
    rig.make::<Network>(elsewhere, json!({ "name": "north" }));
    let home = school.home();
    // None of those who walk: a new password ends all that its owner is signed in by.
    rig.user(home, "paul", "member", Some("viewer"));
    let mut people = BTreeMap::from([
        ("nemo", rig.user(home, "nemo", "member", None)),
        ("vera", rig.user(home, "vera", "member", Some("viewer"))),
        ("tina", rig.user(home, "tina", "member", Some("technician"))),
        ("anna", rig.user(home, "anna", "member", Some("admin"))),
        ("olga", rig.user(home, "olga", "organization-admin", None)),
        ("eve", rig.user(elsewhere, "eve", "member", Some("admin"))),
    ]);
    let hash = Passwords::new().unwrap().hash(&"nobody knows it".into()).unwrap();
    let root = json!({ "name": "root", "full_name": "Root", "standing": "superadmin" });
    let root =
        rig.panel().make_first(&crate::rig::value(root), hash.expose_secret()).unwrap().unwrap();
    people.insert("root", root.id);
    let job = rig.panel().begin_job(ROOT, Some(school.network), None, "test").unwrap().id;

    let program = |walker: &str| match people.get(walker) {
        Some(user) => Program::of(&rig, *user, ALL),
        None => Program::nobody(&rig),
    };
    let mut programs = WALKERS.map(program);
    let mut got = Vec::new();
    for route in table() {
        let path = filled(&rig, &school, job, &route.path);
        let mut row = String::new();
        for (walker, program) in WALKERS.iter().zip(&mut programs) {
            if route.door == Door::Api {
                row.push(letter(program.walk(&rig, &route.method, &path).await));
                continue;
            }
            let mut browser = match people.get(*walker) {
                Some(user) => rig.seat(*user).await,
                None => rig.browser(),
            };
            row.push(letter(status(&mut browser, &route.method, &path).await));
        }
        got.push((format!("{} {}", route.method, route.path), row));
    }
    let decided: BTreeMap<&str, &str> = ANSWERS.iter().chain(API_ANSWERS).copied().collect();
    let differ: Vec<_> = got
        .iter()
        .filter(|(route, row)| decided.get(route.as_str()) != Some(&row.as_str()))
        .map(|(route, row)| format!("    ({route:?}, {row:?}),"))
        .collect();
    assert!(differ.is_empty(), "as {WALKERS:?}:\n{}", differ.join("\n"));
    let known: BTreeSet<&str> = got.iter().map(|(route, _)| route.as_str()).collect();
    let gone: Vec<_> = decided.keys().filter(|route| !known.contains(**route)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    nothing_was_done(&rig, people["root"]);
}

/// An empty form that was let in changes nothing.
fn nothing_was_done(rig: &Rig, root: Id<User>) {
    let organizations = rig.panel().list::<Organization>(ROOT, &ListQuery::default()).unwrap();
    assert_eq!(organizations.rows.len(), 2);
    assert!(rig.panel().standings(Actor::User(root)).unwrap().is_superadmin());
}

#[test]
fn no_route_stands_twice() {
    let mut seen = BTreeSet::new();
    for route in table() {
        assert!(seen.insert((route.method.to_string(), route.path.clone())), "{}", route.path);
    }
}
