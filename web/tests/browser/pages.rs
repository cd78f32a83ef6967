//! Every page of the route table, for who may do all and for a technician.

use std::collections::BTreeMap;

use axum::http::{Method, header};
use clusterducks_panel::routes::{Door, Route, table};
use model::code::JoinSecret;
use panel::{
    noun::{Device, Group, Id, Menu, Place, Server, Subnet, Tunnel, User, Vdisk, Volume},
    operations::{ChannelSecret, Kind},
    store::ListQuery,
};
use rcgen::KeyPair;
use serde_json::json;

use crate::{
    boot::NewBox,
    rig::{Browser, ROOT, Rig},
    tab::Tab,
};

/// What is left out of what the guide made: one of everything has to be there.
pub(crate) async fn one_of_everything(rig: &Rig, network: i64) {
    let secret = JoinSecret::new(rand::random());
    let digest = panel::codes::digest(&secret);
    rig.panel().make_join_code(ROOT, Id::new(network), None, digest, 3_600_000, true).unwrap();
    let newcomer = NewBox { key: KeyPair::generate().unwrap(), name: "newcomer" };
    newcomer.ask(rig, &secret).await;

    let at = Place::Network(Id::new(network));
    rig.make::<Menu>(at, json!({ "name": "main", "title": "Lab", "entries": [{ "label": "Boot", "action": "image" }] }));
    rig.make::<Vdisk>(at, json!({ "name": "home-01", "server": "agent-1", "pool": "tank", "size_bytes": 1_u64 << 30 }));
    rig.make::<Tunnel>(
        Place::Panel,
        json!({ "name": "relay", "host": "relay.example", "port": 22 }),
    );
    rig.panel().begin_job(ROOT, Some(Id::new(network)), None, "fetch image").unwrap();
    let hook =
        json!({ "name": "hook", "least": "info", "way": "hook", "url": "https://127.0.0.1:9/" });
    let organization = rig.panel().owner(ROOT, Id::new(network)).unwrap().id;
    let (hook, secret) = (crate::rig::value(hook), ChannelSecret::Keep);
    rig.panel().create_channel(ROOT, organization, &hook, &secret, rig.app.box_key()).unwrap();
}

/// The number of the record that stands for all of its noun: of the network that the technician looks after.
fn numbers(rig: &Rig, network: i64) -> BTreeMap<&'static str, i64> {
    fn first<T: Kind>(rig: &Rig, network: Option<i64>) -> i64 {
        let query = ListQuery { network: network.map(Id::new), ..ListQuery::default() };
        rig.panel().list::<T>(ROOT, &query).unwrap().rows[0].id.number()
    }
    let at = Some(network);
    let organization = rig.panel().owner(ROOT, Id::new(network)).unwrap().id;
    BTreeMap::from([
        ("organizations", organization.number()),
        // Somebody else than who looks: one's own password is changed elsewhere.
        ("users", user(rig, "tina").number()),
        ("networks", network),
        ("subnets", first::<Subnet>(rig, at)),
        ("tunnels", first::<Tunnel>(rig, None)),
        ("servers", first::<Server>(rig, at)),
        ("volumes", first::<Volume>(rig, at)),
        ("groups", first::<Group>(rig, at)),
        ("vdisks", first::<Vdisk>(rig, at)),
        ("menus", first::<Menu>(rig, at)),
        ("devices", first::<Device>(rig, at)),
        ("channels", rig.panel().channels(ROOT).unwrap()[0].id),
    ])
}

fn user(rig: &Rig, name: &str) -> Id<User> {
    let query = ListQuery { search: Some(name.into()), ..ListQuery::default() };
    rig.panel().list::<User>(ROOT, &query).unwrap().rows[0].id
}

/// The routes that answer with a page, by which path, and whether it is a refusal.
async fn shown(rig: &Rig, network: i64, browser: &mut Browser) -> Vec<(String, String, bool)> {
    let numbers = numbers(rig, network);
    let linked = async |browser: &mut Browser, list: &str, mark: &str| {
        let page = browser.get(list).await.body;
        let found = page.split_once(mark).map(|(_, rest)| rest.split('"').next().unwrap());
        found.unwrap_or("1").to_owned()
    };
    let serial = linked(browser, "/certificates", "href=\"/certificates/issued/").await;
    let code = linked(browser, "/joins", "href=\"/joins/").await;
    let mut shown = Vec::new();
    let for_people = |route: &&Route| matches!(route.door, Door::Open | Door::SignedIn);
    for route in table().iter().filter(|route| route.method == Method::GET).filter(for_people) {
        // It never ends.
        if route.path == "/events" {
            continue;
        }
        let noun = route.path.split('/').nth(1).unwrap();
        let number = numbers.get(noun).copied().unwrap_or(1).to_string();
        let path = route.path.replace("{id}", &number).replace("{network}", &number);
        let path = path.replace("{serial}", &serial).replace("{code}", &code);
        let answer = browser.get(&path).await;
        let html = answer.headers.get(header::CONTENT_TYPE);
        let html = html.is_some_and(|kind| kind.to_str().unwrap().starts_with("text/html"));
        if html && answer.body.starts_with("<!doctype html>") {
            shown.push((route.path.clone(), path, !answer.status.is_success()));
        }
    }
    shown
}

/// Looks at all of them.
pub(crate) async fn look_at_all(rig: &Rig, tab: &mut Tab, network: i64) {
    for (name, at_least) in [("ada", 57), ("tina", 30)] {
        let mut browser = rig.seat(user(rig, name)).await;
        let pages = shown(rig, network, &mut browser).await;
        let open = pages.iter().filter(|(_, _, refused)| !refused).count();
        assert!(open >= at_least, "{name} sees {open} pages: {pages:?}");
        tab.sit(&browser.cookies["__Host-session"]).await;
        // Refusals are one page, whatever was asked for.
        let mut refusals = 0;
        for (called, path, refused) in pages {
            refusals += u32::from(refused);
            if refused && refusals > 2 {
                continue;
            }
            tab.go(&path).await;
            let picture = format!("{name}{}", called.replace('/', "-").replace(['{', '}'], ""));
            let expected: &[&str] = if refused { &["403", "404"] } else { &[] };
            tab.hear(&picture, expected).await;
            // The technician's pages are made by the same templates.
            if name == "ada" {
                tab.look(&picture).await;
            } else {
                tab.glance(&picture).await;
            }
        }
    }
}
