use axum::http::Method;
use panel::{
    access::{Limit, Rank},
    noun::{Device, Network, Organization, Place, Server},
    store::ListQuery,
};
use serde_json::{Value, json};

use super::{ALL, Program, TYPE};
use crate::rig::{ROOT, Rig, School, device, school};

async fn at_school() -> (Rig, School, Program) {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let program = Program::of(&rig, user, ALL);
    (rig, school, program)
}

#[tokio::test]
async fn a_record_is_made_read_changed_and_deleted_at_its_version() {
    let (rig, school, mut program) = at_school().await;
    let all = format!("/networks/{}/devices", school.network);
    let made = program.post(&all, &device(10)).await;
    let record = made.json(201);
    let path = made.header("location").strip_prefix("/api/v1").unwrap().to_owned();
    assert_eq!(path, format!("/devices/{}", record["id"]));
    assert_eq!(made.header("etag"), "\"1\"");
    assert_eq!(record["place"], json!({ "network": school.network.number() }));
    let read = program.get(&path).await;
    assert_eq!((read.json(200), read.header("etag")), (record.clone(), "\"1\""));

    let mut value = record["value"].clone();
    value["test"] = json!(true);
    let changed = program.put(&path, "\"1\"", &value).await;
    assert_eq!(changed.json(200)["value"], value);
    assert_eq!(changed.header("etag"), "\"2\"");
    value["test"] = json!(false);
    let overtaken = program.put(&path, "\"1\"", &value).await.json(412);
    assert_eq!(overtaken["version"], 2);
    assert_eq!(overtaken["current"]["test"], true);
    for tag in ["\"7\"", "W/\"2\"", "2", "*", "\"\"", "\"-2\""] {
        program.put(&path, tag, &value).await.json(412);
        program.delete(&path, tag).await.json(412);
    }
    let gone = program.delete(&path, "\"2\"").await;
    assert_eq!((gone.status.as_u16(), gone.body.as_str()), (204, ""));
    program.get(&path).await.json(404);
    assert_eq!(rig.panel().count::<Device>(ROOT, &ListQuery::default()).unwrap(), 0);
}

#[tokio::test]
async fn a_preview_changes_nothing() {
    let (rig, school, mut program) = at_school().await;
    let count = || rig.panel().count::<Device>(ROOT, &ListQuery::default()).unwrap();
    let all = format!("/networks/{}/devices", school.network);
    let previews = program.post(&format!("{all}?preview=true"), &device(10)).await.json(200);
    assert_eq!((&previews[0]["name"], &previews[0]["changes"]), (&json!("agent-1"), &json!(true)));
    assert_eq!(count(), 0);
    let path = format!("/devices/{}", program.post(&all, &device(10)).await.json(201)["id"]);
    let mut value = device(10);
    value["test"] = json!(true);
    let previews = program.put(&format!("{path}?preview=true"), "\"1\"", &value).await.json(200);
    assert!(previews.is_array(), "{previews}");
    let previews = program.delete(&format!("{path}?preview=true"), "\"1\"").await.json(200);
    assert_eq!(previews[0]["server"], previews[0]["server"].as_i64().unwrap());
    assert_eq!(program.get(&path).await.json(200)["version"], 1);
}

/// The names of all rows, as many at once as is told.
async fn names(program: &mut Program, path: &str, between: impl AsyncFn()) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = program.get(&format!("{path}{cursor}")).await.json(200);
        let rows = page["rows"].as_array().unwrap();
        names.extend(rows.iter().map(|row| row["value"]["name"].as_str().unwrap().to_owned()));
        match &page["next"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return names,
        }
        between().await;
    }
}

#[tokio::test]
async fn a_list_is_walked_by_cursors_whatever_is_added_meanwhile() {
    let (rig, school, mut program) = at_school().await;
    for number in 10..15 {
        rig.make::<Device>(school.at(), device(number));
    }
    let all = format!("/networks/{}/devices?limit=2", school.network);
    let seen = names(&mut program, &all, async || {
        // Before all that was seen: it moves nothing.
        let number = rig.panel().count::<Device>(ROOT, &ListQuery::default()).unwrap();
        let mut early = device(100 + u8::try_from(number).unwrap());
        early["name"] = json!(format!("a-{number}"));
        rig.make::<Device>(school.at(), early);
    });
    let seen = seen.await;
    assert_eq!(seen, ["pc-10", "pc-11", "pc-12", "pc-13", "pc-14"]);
    let last = program.get(&format!("{all}&sort=name&descending=true")).await.json(200);
    assert_eq!((&last["rows"][0]["value"]["name"], &last["total"]), (&json!("pc-14"), &json!(7)));
    let found = program.get("/devices?q=PC-12").await.json(200);
    assert_eq!((found["total"].as_i64(), found["next"].is_null()), (Some(1), true));
}

#[tokio::test]
async fn a_token_is_held_to_its_network_and_its_rank() {
    let (rig, north, _) = at_school().await;
    let south = rig.make::<Network>(north.home(), json!({ "name": "south" }));
    let boss = rig.user(north.home(), "olga", "organization-admin", None);
    let limit = Limit { most: Rank::Viewer, network: Some(north.network) };
    let mut program = Program::of(&rig, boss, limit);
    let seen = program.get("/networks").await.json(200);
    assert_eq!((&seen["total"], &seen["rows"][0]["value"]["name"]), (&json!(1), &json!("north")));
    program.get(&format!("/networks/{south}")).await.json(404);
    program.post(&format!("/networks/{}/devices", north.network), &device(10)).await.json(403);
    assert_eq!(rig.panel().count::<Organization>(ROOT, &ListQuery::default()).unwrap(), 1);
    let mut all = Program::of(&rig, boss, ALL);
    assert_eq!(all.get("/networks").await.json(200)["total"], 2);
}

#[tokio::test]
async fn a_request_that_comes_again_by_its_key_makes_nothing_more() {
    let (rig, school, mut program) = at_school().await;
    let all = format!("/networks/{}/devices", school.network);
    let mut post = async |key: &str, body: Value| {
        let headers = [TYPE, ("idempotency-key", key)];
        program.send(Method::POST, &all, &headers, body.to_string()).await
    };
    let first = post("\"8e03978e\"", device(10)).await;
    let again = post("\"8e03978e\"", device(10)).await;
    assert_eq!(first.json(201), again.json(201));
    for name in ["location", "etag"] {
        assert_eq!(first.header(name), again.header(name));
    }
    assert_eq!(post("\"8e03978e\"", device(11)).await.faults(), ["idempotency-key"]);
    for bad in ["", "a b", &"x".repeat(256)] {
        assert_eq!(post(bad, device(12)).await.faults(), ["idempotency-key"], "{bad}");
    }
    assert_eq!(rig.panel().count::<Device>(ROOT, &ListQuery::default()).unwrap(), 1);
}

#[tokio::test]
async fn a_device_s_boots_are_told_as_its_page_shows_them() {
    let (rig, school, mut program) = at_school().await;
    let pc = rig.make::<Device>(school.at(), device(10));
    let server = rig.panel().list::<Server>(ROOT, &ListQuery::default()).unwrap().rows[0].id;
    let step = |step: &str, time_ms: u64| {
        crate::rig::value(
            json!({ "number": 1, "time_ms": time_ms, "event": "boot", "device": "pc-10",
            "boot": "0123456789abcdef0123456789abcdef", "step": step, "message": "" }),
        )
    };
    rig.panel().keep_boots(server, &[step("script", 1000), step("up", 9000)]).unwrap();
    let boots = program.get(&format!("/devices/{pc}/boots")).await.json(200);
    let steps = json!([
        { "step": "script", "at_ms": 1000, "after_ms": 0, "took_ms": 0 },
        { "step": "up", "at_ms": 9000, "after_ms": 8000, "took_ms": 8000 },
    ]);
    let expected = json!([{ "boot": "0123456789abcdef0123456789abcdef", "server": server, "state": "up",
        "began_ms": 1000, "took_ms": 8000, "message": null, "steps": steps }]);
    assert_eq!(boots, expected);
}
