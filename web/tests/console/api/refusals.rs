use std::collections::BTreeSet;

use axum::http::Method;
use clusterducks_panel::api::{document::document, lines};
use panel::{
    noun::{Device, Group, Place},
    operations::Actor,
    store::ListQuery,
};
use serde_json::{Value, json};

use super::{ALL, Program, TYPE};
use crate::rig::{ROOT, Rig, device, school};

/// The status, and the request: method, path, headers, body.
type Case<'a> = (u16, &'a Method, &'a str, &'a [(&'a str, &'a str)], &'a str);

#[tokio::test]
async fn each_refusal_is_a_problem_that_says_where() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut program = Program::of(&rig, user, ALL);
    let all = format!("/networks/{}/devices", school.network);
    let device_id = program.post(&all, &device(10)).await.json(201)["id"].clone();
    let path = format!("/devices/{device_id}");

    let mut wrong = device(11);
    wrong["macs"][0] = json!("zz");
    assert_eq!(program.post(&all, &wrong).await.faults(), ["/macs/0"]);
    let mut taken = device(10);
    taken["address"] = json!("10.78.0.1");
    assert_eq!(program.post(&all, &taken).await.faults(), ["/address"]);
    assert_eq!(program.post(&all, &json!({ "nothing": 1 })).await.faults(), ["/nothing"]);
    for query in
        ["limit=0", "limit=201", "limit=x", "sort=colour", "cursor=zz", "colour=1", "descending=si"]
    {
        let name = query.split('=').next().unwrap();
        assert_eq!(program.get(&format!("{all}?{query}")).await.faults(), [name], "{query}");
    }
    assert_eq!(program.get(&format!("{all}?q=a&q=b")).await.faults(), ["q"]);

    let send = async |program: &mut Program, method, path: &str, headers: &[_], body: &str| {
        let answer = program.send(method, path, headers, body.to_owned()).await;
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.body);
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["status"], answer.status.as_u16(), "{told}");
        assert!(told["type"].is_string() && told["title"].is_string(), "{told}");
        answer
    };
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    let tag = ("if-match", "\"1\"");
    let long = "x".repeat((16 << 20) + 1);
    let group = rig.panel().list::<Group>(ROOT, &ListQuery::default()).unwrap().rows[0].id;
    let group = format!("/groups/{group}");
    let cases: [Case<'_>; 12] = [
        (400, &post, &all, &[TYPE], "{"),
        (404, &get, "/devices/999", &[], ""),
        (404, &get, "/devices/x", &[], ""),
        (404, &get, "/nothing", &[], ""),
        (405, &Method::PATCH, &path, &[], ""),
        (409, &Method::DELETE, &group, &[tag], ""),
        (412, &put, &path, &[TYPE, ("if-match", "\"9\"")], &device(10).to_string()),
        (413, &post, &all, &[TYPE], &long),
        (415, &post, &all, &[("content-type", "text/plain")], "{}"),
        (415, &post, &all, &[], "{}"),
        (422, &post, &all, &[TYPE], "[]"),
        (428, &put, &path, &[TYPE], &device(10).to_string()),
    ];
    let mut seen = BTreeSet::new();
    for (status, method, path, headers, body) in cases {
        let answer = send(&mut program, method.clone(), path, headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
        seen.insert(status);
        if status == 405 {
            assert!(answer.header("allow").contains("GET"), "{:?}", answer.headers);
        }
        if status == 409 {
            let told: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(told["dependents"][0]["name"], "pc-10");
        }
    }
    let mut nobody = Program::nobody(&rig);
    let refused = send(&mut nobody, get.clone(), &path, &[], "").await;
    assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, "Bearer"));
    for bad in ["Bearer cdk_00", "Bearer", "Basic YTpi", "bearer"] {
        let refused = send(&mut nobody, get.clone(), &path, &[("authorization", bad)], "").await;
        assert_eq!(refused.status.as_u16(), 401, "{bad}");
    }
    let vera = rig.user(school.home(), "vera", "member", Some("viewer"));
    let mut viewer = Program::of(&rig, vera, ALL);
    assert_eq!(
        send(&mut viewer, post.clone(), &all, &[TYPE], &device(12).to_string()).await.status,
        403
    );
    seen.extend([401, 403]);
    let told: BTreeSet<u16> =
        lines().into_iter().flat_map(|line| line.operation.refusals).collect();
    assert_eq!(told.difference(&seen).count(), 0, "{told:?}");
}

#[tokio::test]
async fn a_token_ends_with_its_owner() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut program = Program::of(&rig, user, ALL);
    program.get("/organizations").await.json(200);
    let token = rig.panel().tokens(Actor::User(user), user).unwrap()[0].id;
    rig.panel().revoke_token(Actor::User(user), user, token).unwrap();
    program.get("/organizations").await.json(401);
}

#[tokio::test]
async fn a_session_reads_and_changes_only_as_the_console_does() {
    let rig = Rig::new().await;
    let school = school(&rig, "School");
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let mut browser = rig.seat(user).await;
    browser.get("/api/v1/devices").await.json(200);
    let path = format!("/api/v1/networks/{}/devices", school.network);
    let token = browser.csrf.clone();
    let (csrf, here) = (("x-csrf-token", token.as_str()), ("sec-fetch-site", "same-origin"));
    let refused: [&[(&str, &str)]; 3] = [
        &[TYPE, here],
        &[TYPE, here, ("x-csrf-token", "00")],
        &[TYPE, csrf, ("sec-fetch-site", "cross-site")],
    ];
    for headers in refused {
        let answer = browser.send(Method::POST, &path, headers, device(10).to_string()).await;
        assert_eq!(answer.json(403)["type"], "foreign", "{headers:?}");
    }
    assert_eq!(rig.panel().count::<Device>(ROOT, &ListQuery::default()).unwrap(), 0);
    let (headers, body) = ([TYPE, csrf, here], device(10).to_string());
    browser.send(Method::POST, &path, &headers, body).await.json(201);
}

#[tokio::test]
async fn the_document_says_all_and_every_reference_leads_somewhere() {
    let rig = Rig::new().await;
    let user = rig.user(Place::Panel, "ada", "superadmin", None);
    let served = Program::of(&rig, user, ALL).get("/openapi.json").await.json(200);
    assert_eq!(served, document());
    assert_eq!(served["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for methods in served["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
        }
    }
    let mut references = Vec::new();
    collect(&served, &mut references);
    assert!(references.len() > 50, "{references:?}");
    for reference in references {
        let target = served.pointer(reference.strip_prefix('#').unwrap());
        assert!(target.is_some(), "{reference}");
    }
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| collect(value, found));
        }
        Value::Array(array) => array.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
