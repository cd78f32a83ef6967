//! The JSON API over real HTTPS: who may do what, how it refuses, and that its document says what it does.

mod answers;
mod events;
mod fuzz;
mod panel_itself;
mod records;
mod refusals;

pub(crate) use answers::API_ANSWERS;
use axum::http::{Method, StatusCode};
use clusterducks_panel::pages::account::token_digest;
use model::code::{JoinSecret, PairingCode};
use panel::{
    access::{Limit, Rank},
    noun::{
        Device, Group, Id, Menu, Network, Organization, Server, Subnet, Tunnel, User, Vdisk, Volume,
    },
    operations::{Actor, Kind},
    secret::ExposeSecret as _,
    store::ListQuery,
};
use serde_json::{Value, json};

use crate::rig::{Answer, Browser, ROOT, Rig};

pub(crate) const ALL: Limit = Limit { most: Rank::Superadmin, network: None };

/// A program that calls the API with a token.
pub(crate) struct Program {
    browser: Browser,
    token: String,
}

impl Program {
    pub(crate) fn of(rig: &Rig, user: Id<User>, limit: Limit) -> Self {
        let token = format!("cdk_{}", hex::encode(rand::random::<[u8; 16]>()));
        let ends = rig.panel().now_ms() + 3_600_000;
        let digest = token_digest(&token);
        rig.panel().make_token(Actor::User(user), &token, digest, limit, ends).unwrap();
        Self { browser: rig.browser(), token }
    }

    pub(crate) fn nobody(rig: &Rig) -> Self {
        Self { browser: rig.browser(), token: String::new() }
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut all = headers.to_vec();
        if !self.token.is_empty() {
            all.push(("authorization", &bearer));
        }
        self.browser.send(method, &format!("/api/v1{path}"), &all, body).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], String::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[TYPE], body.to_string()).await
    }

    pub(crate) async fn put(&mut self, path: &str, tag: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[TYPE, ("if-match", tag)], body.to_string()).await
    }

    pub(crate) async fn delete(&mut self, path: &str, tag: &str) -> Answer {
        self.send(Method::DELETE, path, &[("if-match", tag)], String::new()).await
    }

    /// As the walk of the roles asks: a change is of a version that no record has, or clashes with what is there.
    pub(crate) async fn walk(&mut self, rig: &Rig, method: &Method, path: &str) -> StatusCode {
        let body = match *method {
            Method::POST | Method::PUT => sample(rig, path),
            _ => Value::Null,
        };
        let path = path.strip_prefix("/api/v1").unwrap();
        if path == "/events" {
            // Its body never ends.
            let bearer = format!("Bearer {}", self.token);
            let headers: &[(&str, &str)] =
                if self.token.is_empty() { &[] } else { &[("authorization", &bearer)] };
            let path = "/api/v1/events";
            let request = self.browser.request(Method::GET, path, headers, String::new());
            return self.browser.connect().await.send_request(request).await.unwrap().status();
        }
        let kind = if path.ends_with("/import") { "text/csv" } else { TYPE.1 };
        let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        let headers = [("content-type", kind), ("if-match", "\"0\"")];
        self.send(method.clone(), path, &headers, body).await.status
    }
}

pub(crate) const TYPE: (&str, &str) = ("content-type", "application/json");

impl Answer {
    /// Its JSON, which must have come with this status.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The pointers, parameters and headers that it tells as wrong.
    pub(crate) fn faults(&self) -> Vec<String> {
        let told = self.json(422);
        let place = |fault: &Value| {
            let place =
                ["pointer", "parameter", "header"].into_iter().find_map(|of| fault[of].as_str());
            place.unwrap_or_else(|| panic!("{fault}")).to_owned()
        };
        told["errors"].as_array().unwrap().iter().map(place).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

fn first<T: Kind>(rig: &Rig) -> Value {
    let rows = rig.panel().list::<T>(ROOT, &ListQuery::default()).unwrap().rows;
    serde_json::to_value(&rows[0].value).unwrap()
}

/// A body that is well formed, and in which something is taken.
fn sample(rig: &Rig, path: &str) -> Value {
    let noun = path.split('/').rfind(|part| part.parse::<i64>().is_err()).unwrap();
    match noun {
        "organizations" => first::<Organization>(rig),
        "users" => first::<User>(rig),
        "networks" => first::<Network>(rig),
        "subnets" => first::<Subnet>(rig),
        "tunnels" => first::<Tunnel>(rig),
        "servers" => first::<Server>(rig),
        "volumes" => first::<Volume>(rig),
        "groups" => first::<Group>(rig),
        "vdisks" => first::<Vdisk>(rig),
        "menus" => first::<Menu>(rig),
        "devices" => first::<Device>(rig),
        "channels" => json!({ "name": "hook", "least": "info", "way": "hook", "url": "ftp://x" }),
        "backup" => json!({ "pass_phrase": "short" }),
        "destroy" => json!({ "mark": "volume:debian" }),
        "join-codes" => json!({ "host": "panel.local", "hours": 999 }),
        "pairing" => {
            let code = PairingCode { secret: JoinSecret::new([7; 8]).into(), key: None };
            json!({ "code": code.text().expose_secret() })
        }
        "pairing-seed" => json!({ "hours": 999 }),
        "tokens" => json!({ "name": "script", "limit": { "most": "viewer" }, "expires_ms": 1 }),
        "revoke" => json!({ "reason": "unspecified" }),
        "change" => {
            let mut body = sample(rig, "/devices/delete");
            body["set"] = json!({});
            body
        }
        "delete" => {
            let id = rig.panel().list::<Device>(ROOT, &ListQuery::default()).unwrap().rows[0].id;
            json!({ "devices": [{ "id": id, "version": 99 }] })
        }
        "import" => json!("name\npc-10\nPC\n"),
        _ => json!({}),
    }
}
