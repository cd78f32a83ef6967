//! Devices, many at once: changed, deleted, imported and exported; and the address that is free.

use std::net::Ipv4Addr;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use panel::{
    boots::{Boot, Reached, State as BootState},
    noun::{Device, Id, Network, Server, Stored, Subnet},
    operations::{DevicePatch, Import},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Map, Value, json};

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Body, CSV, Csv, Numbers, Query},
    records::Fate,
    refusal::{Fault, Refusal, pointer},
};
use crate::{app::App, problem::Problem};

/// A device at the version that the caller knows.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Known {
    id: Id<Device>,
    version: u64,
}

/// One change to many devices.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DevicesChange")]
struct Change {
    devices: Vec<Known>,
    /// What to set on each; what is absent stays.
    #[serde(deserialize_with = "by_name")]
    set: DevicePatch,
}

/// Where no field has to be there, serde takes any short list for a struct.
fn by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DevicePatch, D::Error> {
    let fields = Map::<String, Value>::deserialize(deserializer)?;
    serde_json::from_value(Value::Object(fields)).map_err(Error::custom)
}

/// Many devices to delete.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DevicesDeletion")]
struct Deletion {
    devices: Vec<Known>,
    /// What becomes of their data.
    #[serde(default)]
    data: Fate,
}

/// An address that nobody has.
#[derive(Debug, Serialize, JsonSchema)]
struct FreeAddress {
    /// Absent when there is none.
    address: Option<Ipv4Addr>,
}

/// A boot of a device.
#[derive(Debug, Serialize, JsonSchema)]
struct DeviceBoot {
    /// What its server calls it.
    boot: String,
    /// The server that it booted from, while that is there.
    server: Option<Id<Server>>,
    state: BootState,
    /// When its first step was told, in milliseconds since 1970 by the server's clock.
    began_ms: u64,
    /// How long it took until the device was up.
    took_ms: Option<u64>,
    /// What the device said last.
    message: Option<String>,
    /// The steps that it reached, in the order of time.
    steps: Vec<Reached>,
}

impl DeviceBoot {
    fn of(boot: Boot, now_ms: u64) -> Self {
        Self {
            state: boot.state(now_ms),
            took_ms: boot.took_ms(),
            steps: boot.reached(),
            began_ms: boot.began_ms,
            server: boot.server,
            message: boot.message,
            boot: boot.boot,
        }
    }
}

/// The routes.
pub fn lines() -> Vec<Line> {
    let operation = |id, summary| Operation::new("device", id, summary);
    vec![
        Line::post(
            "/devices/change",
            post(change),
            operation("changeDevices", "Changes many devices, all or none")
                .takes::<Change>()
                .answers::<Vec<Stored<Device>>>(200, "The devices.")
                .refuses([403, 404, 409]),
        ),
        Line::post(
            "/devices/delete",
            post(delete),
            operation("deleteDevices", "Deletes many devices, all or none")
                .takes::<Deletion>()
                .done("They are gone.")
                .refuses([403, 404, 409]),
        ),
        Line::post(
            "/networks/{network}/devices/import",
            post(import),
            operation("importDevices", "Makes and changes devices from a spreadsheet, all or none")
                .takes_as::<String>(CSV)
                .asked(
                    "preview",
                    json!({ "type": "boolean" }),
                    "Change nothing, and answer what it would do.",
                )
                .answers::<Import>(200, "What became of each line.")
                .refuses([403]),
        ),
        Line::get(
            "/networks/{network}/devices.csv",
            get(export),
            operation("exportDevices", "The devices of a network as a spreadsheet")
                .answers_as::<String>(200, CSV, "The spreadsheet, as an import reads it."),
        ),
        Line::get(
            "/subnets/{id}/free-address",
            get(free_address),
            operation("freeAddress", "The lowest address of a subnet that nobody has")
                .answers::<FreeAddress>(200, "The address."),
        ),
        Line::get(
            "/devices/{id}/boots",
            get(boots),
            operation("bootsOfDevice", "The last boots of a device, the newest first")
                .answers::<Vec<DeviceBoot>>(200, "The boots."),
        ),
    ]
}

fn known(devices: Vec<Known>) -> Vec<(Id<Device>, u64)> {
    devices.into_iter().map(|known| (known.id, known.version)).collect()
}

/// A fault of one device of many is one of what was to be set on all; the words say whose it is.
fn of_many(problem: Problem, at: &str) -> Refusal {
    match problem {
        Problem::Conflict { .. } => Refusal::Overtaken,
        Problem::Invalid(faults) => {
            let told = faults.into_iter().map(|fault| match fault.field.split_once('.') {
                Some((name, field)) if at == "/set" => Fault::at(
                    format!("{at}{}", pointer(field)),
                    format!("{name}: {}", fault.message),
                ),
                Some((name, _)) => Fault::at(at, format!("{name}: {}", fault.message)),
                None => Fault::at(at, fault.message),
            });
            Refusal::Faulty(told.collect())
        }
        other => Refusal::Problem(other),
    }
}

async fn change(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Body(Change { devices, set }): Body<Change>,
) -> Result<Json<Vec<Stored<Device>>>, Refusal> {
    let devices = known(devices);
    let changed = app.change(move |panel| panel.change_devices(actor, &devices, &set)).await;
    Ok(Json(changed.map_err(|problem| of_many(problem, "/set"))?))
}

async fn delete(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Body(Deletion { devices, data }): Body<Deletion>,
) -> Result<StatusCode, Refusal> {
    let devices = known(devices);
    let deleted = app.change(move |panel| panel.delete_devices(actor, &devices, data.into())).await;
    deleted.map_err(|problem| of_many(problem, "/devices"))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn import(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([network]): Numbers<1>,
    mut query: Query,
    Csv(text): Csv,
) -> Result<Json<Import>, Refusal> {
    let (network, preview) = (Id::<Network>::new(network), query.flag("preview"));
    query.finish()?;
    let done = if preview {
        app.ask(move |panel| panel.preview_import(actor, network, &text)).await
    } else {
        app.change(move |panel| panel.import(actor, network, &text)).await
    };
    // A spreadsheet has lines, and no pointers.
    let lines = |problem| match problem {
        Problem::Invalid(faults) => {
            let told = faults
                .into_iter()
                .map(|fault| Fault::at("", format!("{}: {}", fault.field, fault.message)));
            Refusal::Faulty(told.collect())
        }
        other => Refusal::Problem(other),
    };
    Ok(Json(done.map_err(lines)?))
}

async fn export(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([network]): Numbers<1>,
) -> Result<Response, Refusal> {
    let csv = app.ask(move |panel| panel.export(actor, Id::new(network))).await?;
    let kind = HeaderValue::from_static("text/csv; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], csv).into_response())
}

async fn free_address(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([subnet]): Numbers<1>,
) -> Result<Json<FreeAddress>, Refusal> {
    let subnet = Id::<Subnet>::new(subnet);
    let address = app.ask(move |panel| panel.next_free_address(actor, subnet)).await?;
    Ok(Json(FreeAddress { address }))
}

async fn boots(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([device]): Numbers<1>,
) -> Result<Json<Vec<DeviceBoot>>, Refusal> {
    let boots = app.ask(move |panel| panel.boot_history(actor, Id::new(device))).await?;
    let now_ms = app.panel().now_ms();
    Ok(Json(boots.into_iter().map(|boot| DeviceBoot::of(boot, now_ms)).collect()))
}
