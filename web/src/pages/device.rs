//! A device: its page, many of them at once, and a spreadsheet of them.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use model::{
    desired::{VdiskPurpose, tree},
    name::Iqn,
};
use panel::{
    access::Verb,
    boots::Boot,
    noun::{Device, Group, Id, Noun, Server, Stored},
    operations::{Actor, Data, DevicePatch, Error, Import, ImportLine, Outcome, Panel},
    store::{FieldError, ListQuery},
};

use super::{
    form::{FormView, Site},
    list::{Asked, names},
    network::generation_of,
    record::free_address,
};
use crate::{
    app::App,
    fields::{Fields, Reader},
    frame::{Frame, Seat, download, go, page},
    problem::Problem,
    shapes::word,
};

/// What one server has of a device.
#[derive(Debug, Clone)]
struct Seen {
    server: String,
    id: i64,
    /// Its initiator is logged in at this many targets.
    sessions: usize,
    /// The bytes of its own clone.
    clone_bytes: Option<u64>,
    seen_ms: Option<u64>,
}

#[derive(Debug, Template)]
#[template(path = "device.html", blocks = ["live"])]
struct DevicePage {
    frame: Frame,
    site: Site,
    device: Stored<Device>,
    boot_mode: String,
    on_failure: String,
    generation: Option<u32>,
    seen: Vec<Seen>,
    boots: Vec<Boot>,
    now_ms: u64,
    may_change: bool,
}

/// A device's page.
///
/// # Errors
/// There is none that the actor may see.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let found = app.ask(move |panel| {
        let device = panel.get::<Device>(actor, Id::new(id))?;
        let missing = Error::NotFound { noun: Noun::Device };
        let site = Site::at(panel, actor, device.place)?.ok_or(missing)?;
        let seen = seen(panel, actor, &site, &device.value)?;
        let query = ListQuery {
            network: Some(site.network.id),
            search: Some(device.value.group.to_string()),
            limit: Some(200),
            ..ListQuery::default()
        };
        let groups = panel.list::<Group>(actor, &query)?.rows;
        let group = groups.iter().find(|group| group.value.name == device.value.group);
        let generation = group.map(|group| generation_of(&group.value, &device.value));
        let boots = panel.boot_history(actor, device.id)?;
        Ok((site, device, generation, seen, boots, panel.now_ms()))
    });
    let (site, device, generation, seen, boots, now_ms) = found.await?;
    let may_change = frame.may(Verb::Change, Noun::Device, device.place);
    let (boot_mode, on_failure) = (word(&device.value.boot_mode), word(&device.value.on_failure));
    let whole = DevicePage {
        frame,
        site,
        device,
        boot_mode,
        on_failure,
        generation,
        seen,
        boots,
        now_ms,
        may_change,
    };
    crate::frame::page_or_part(&whole.frame, &whole, &whole.as_live())
}

/// What the network's servers showed of a device last.
fn seen(panel: &Panel, actor: Actor, site: &Site, device: &Device) -> Result<Vec<Seen>, Error> {
    let query =
        ListQuery { network: Some(site.network.id), limit: Some(200), ..ListQuery::default() };
    let initiator = Iqn::initiator(&device.name);
    let mut all = Vec::new();
    for server in panel.list::<Server>(actor, &query)?.rows {
        let Some(document) = panel.document(actor, server.id)? else { continue };
        let Some(status) = document.status else { continue };
        let own = |pool| status.datasets.get(&tree::device(pool, &device.name));
        all.push(Seen {
            server: server.value.name.to_string(),
            id: server.id.number(),
            sessions: status.sessions.values().filter(|who| who.contains(&initiator)).count(),
            clone_bytes: status.pools.keys().find_map(own).map(|state| state.used_bytes),
            seen_ms: document.status_ms,
        });
    }
    Ok(all)
}

#[derive(Debug, Template)]
#[template(path = "free-address.html")]
struct FreeAddress {
    form: FormView,
}

/// The field of the address, with the next free one of the subnet that was chosen.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn offer_address(
    State(app): State<App>,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let found = app.ask(move |panel| {
        panel.get(seat.actor, Id::<panel::noun::Network>::new(id))?;
        free_address(panel, seat.actor, Id::new(id), asked.get("network"))
    });
    let mut form = FormView::default();
    if let Some((_, address)) = found.await? {
        form.fields.put_some("address", address);
    }
    page(StatusCode::OK, &FreeAddress { form })
}

#[derive(Debug, Template)]
#[template(path = "bulk.html")]
struct Bulk {
    frame: Frame,
    site: Site,
    form: FormView,
    devices: Vec<(String, String)>,
    groups: Vec<String>,
    menus: Vec<String>,
    delete: bool,
}

/// The devices that were ticked, each as `number:version`.
fn ticked(fields: &Fields) -> Vec<(Id<Device>, u64)> {
    let parse = |text: &str| {
        let (id, version) = text.split_once(':')?;
        Some((Id::new(id.parse().ok()?), version.parse().ok()?))
    };
    fields.all("device").filter_map(parse).collect()
}

/// Many devices: asks what to do with them, shows it, and does it to all or none.
///
/// # Errors
/// The actor may not change the network's devices.
pub async fn bulk(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(network): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, network) = (seat.actor, Id::new(network));
    let devices = ticked(&fields);
    let back = format!("/networks/{network}/devices");
    let site = app.ask(move |panel| Site::of(panel, actor, network)).await?;
    if !frame.may_in(Verb::Change, Noun::Device, network) {
        return Err(Problem::forbidden(Verb::Change, Noun::Device));
    }
    if devices.is_empty() {
        return Ok(go(back));
    }
    let delete = fields.get("do") == "delete";
    let done = if !fields.has("sure") {
        None
    } else if delete {
        Some(remove(&app, actor, &fields, devices.clone()).await)
    } else {
        Some(patch(&app, actor, &fields, devices.clone()).await)
    };
    let (status, faults) = match done {
        None => (StatusCode::OK, Vec::new()),
        Some(Ok(())) => return Ok(go(back)),
        Some(Err(Problem::Invalid(faults))) => (StatusCode::UNPROCESSABLE_ENTITY, faults),
        Some(Err(Problem::Conflict { .. })) => {
            let message =
                "somebody changed one of them meanwhile: go back to the list and choose again";
            (StatusCode::CONFLICT, vec![FieldError::new("device", message)])
        }
        Some(Err(problem)) => return Err(problem),
    };
    let found = app.ask(move |panel| {
        let mut chosen = Vec::new();
        for (id, version) in devices {
            let device = panel.get(actor, id)?;
            chosen.push((device.value.name.to_string(), format!("{id}:{version}")));
        }
        let groups = names::<Group>(panel, actor, Some(network))?;
        Ok((chosen, groups, names::<panel::noun::Menu>(panel, actor, Some(network))?))
    });
    let (devices, groups, menus) = found.await?;
    let form = FormView::faulty(fields, faults);
    page(status, &Bulk { frame, site, form, devices, groups, menus, delete })
}

async fn remove(
    app: &App,
    actor: Actor,
    fields: &Fields,
    devices: Vec<(Id<Device>, u64)>,
) -> Result<(), Problem> {
    if fields.get("count") != devices.len().to_string() {
        return Err(Problem::field("count", "type how many devices are deleted"));
    }
    let data = if fields.get("data") == "destroy" { Data::Destroy } else { Data::Keep };
    app.change(move |panel| panel.delete_devices(actor, &devices, data)).await
}

async fn patch(
    app: &App,
    actor: Actor,
    fields: &Fields,
    devices: Vec<(Id<Device>, u64)>,
) -> Result<(), Problem> {
    let mut form = Reader::new(fields);
    let group = form.optional("group");
    let boot_mode =
        if fields.has("boot_mode") { form.word("boot_mode").map(Some) } else { Some(None) };
    let pinned = form.optional("pinned");
    let menu = match fields.get("menu") {
        "-" => Some(None),
        _ => form.optional("menu"),
    };
    let test = match fields.get("test") {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    let on_failure =
        if fields.has("on_failure") { form.word("on_failure").map(Some) } else { Some(None) };
    let read = (|| {
        Some(DevicePatch {
            group: group?,
            boot_mode: boot_mode?,
            test,
            pinned: pinned?,
            menu: menu?,
            no_menu: fields.get("menu") == "-",
            on_failure: on_failure?,
        })
    })();
    let patch = form.finish(read).map_err(Problem::Invalid)?;
    app.change(move |panel| panel.change_devices(actor, &devices, &patch)).await.map(drop)
}

#[derive(Debug, Template)]
#[template(path = "import.html")]
struct ImportPage {
    frame: Frame,
    site: Site,
    form: FormView,
    preview: Option<Import>,
}

impl ImportPage {
    /// The lines that somebody has to look at: the faulty ones alone, while there are any.
    fn shown(&self) -> Vec<&ImportLine> {
        let is_faulty = |line: &&ImportLine| matches!(line.outcome, Outcome::Faulty(_));
        let all: Vec<_> = self.preview.iter().flat_map(|preview| &preview.lines).collect();
        let faulty: Vec<_> = all.iter().copied().filter(is_faulty).collect();
        if faulty.is_empty() { all } else { faulty }
    }

    /// How many lines become this.
    fn lines(&self, what: &str) -> usize {
        let is = |outcome: &Outcome| match outcome {
            Outcome::Create => what == "create",
            Outcome::Change => what == "change",
            Outcome::Same => what == "same",
            Outcome::Faulty(_) => what == "faulty",
        };
        self.preview
            .iter()
            .flat_map(|preview| &preview.lines)
            .filter(|line| is(&line.outcome))
            .count()
    }
}

/// Asks for a spreadsheet.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn show_import(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(network): Path<i64>,
) -> Result<Response, Problem> {
    let site = app.ask(move |panel| Site::of(panel, seat.actor, Id::new(network))).await?;
    if !frame.may_in(Verb::Create, Noun::Device, site.network.id) {
        return Err(Problem::forbidden(Verb::Create, Noun::Device));
    }
    page(StatusCode::OK, &ImportPage { frame, site, form: FormView::default(), preview: None })
}

/// Shows what a spreadsheet would do, or does it.
///
/// # Errors
/// The actor may not make devices there.
pub async fn import(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(network): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let (actor, network) = (seat.actor, Id::new(network));
    let site = app.ask(move |panel| Site::of(panel, actor, network)).await?;
    // A file that was chosen counts more than what stands in the text.
    let text = if fields.has("file") { fields.raw("file") } else { fields.raw("text") };
    let text = text.trim_start_matches('\u{feff}').to_owned();
    let mut shown = Fields::default();
    shown.put("text", &text);
    let mut form = FormView { fields: shown, ..FormView::default() };
    if fields.has("sure") {
        let csv = text.clone();
        match app.change(move |panel| panel.import(actor, network, &csv)).await {
            Ok(_) => return Ok(go(format!("/networks/{network}/devices"))),
            Err(Problem::Invalid(faults)) => form.faults = faults,
            Err(problem) => return Err(problem),
        }
    }
    let preview = match app.ask(move |panel| panel.preview_import(actor, network, &text)).await {
        Ok(preview) => Some(preview),
        Err(Problem::Invalid(faults)) => {
            form.faults = faults;
            None
        }
        Err(problem) => return Err(problem),
    };
    let fine = form.faults.is_empty();
    let status = if fine { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    page(status, &ImportPage { frame, site, form, preview })
}

/// The devices of a network as a spreadsheet.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn export(
    State(app): State<App>,
    seat: Seat,
    Path(network): Path<i64>,
) -> Result<Response, Problem> {
    let (actor, network) = (seat.actor, Id::new(network));
    let found = app.ask(move |panel| {
        Ok((panel.export(actor, network)?, panel.get::<panel::noun::Network>(actor, network)?))
    });
    let (csv, network) = found.await?;
    Ok(download(&format!("{}-devices.csv", network.value.name), "text/csv; charset=utf-8", csv))
}
