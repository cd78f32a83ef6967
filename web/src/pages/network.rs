//! The networks, and one network's tabs.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use model::desired::{BootMode, Dhcp};
use panel::{
    access::Verb,
    noun::{
        Device, Group, Id, Menu, Network, Noun, Organization, Server, Stored, Subnet, Vdisk, Volume,
    },
    operations::{Actor, Error, Panel},
    store::{Health, ListQuery},
};

use super::{
    form::Site,
    list::{Asked, Rows, names, rows},
    server::State as Condition,
};
use crate::{
    app::App,
    format,
    frame::{Frame, Seat, go, page_or_part},
    problem::Problem,
    shapes::word,
};

/// The word of a boot mode.
pub(crate) fn mode(mode: &BootMode) -> String {
    word(mode)
}

/// A network in the list.
#[derive(Debug, Clone)]
pub struct Line {
    /// The network.
    pub network: Stored<Network>,
    /// Whose it is.
    pub organization: String,
    /// How many devices it has.
    pub devices: u64,
    /// Its servers.
    pub servers: Vec<(Health, Condition)>,
}

/// Networks with what is in them.
///
/// # Errors
/// The store failed.
pub fn lines(
    panel: &Panel,
    actor: Actor,
    networks: Vec<Stored<Network>>,
) -> Result<Vec<Line>, Error> {
    let now_ms = format::ms(std::time::SystemTime::now());
    let health = panel.health(actor, None)?;
    networks
        .into_iter()
        .map(|network| {
            let id = network.id;
            let query = ListQuery { network: Some(id), ..ListQuery::default() };
            let own = health.iter().filter(|health| health.network == id).cloned();
            Ok(Line {
                organization: panel.owner(actor, id)?.value.name.to_string(),
                devices: panel.count::<Device>(actor, &query)?,
                servers: own
                    .map(|health| (health.clone(), Condition::of(&health, now_ms)))
                    .collect(),
                network,
            })
        })
        .collect()
}

#[derive(Debug, Template)]
#[template(path = "networks.html", blocks = ["list"])]
struct Networks {
    frame: Frame,
    list: Rows<Network>,
    lines: Vec<Line>,
    organizations: Vec<String>,
    may_create: bool,
}

/// The networks.
///
/// # Errors
/// The store failed.
pub async fn networks(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let found = app.ask(move |panel| {
        let list = rows::<Network>(panel, actor, &asked, None)?;
        let lines = lines(panel, actor, list.rows.clone())?;
        Ok((list, lines, names::<Organization>(panel, actor, None)?))
    });
    let (list, lines, organizations) = found.await?;
    let may_create = frame.people();
    let whole = Networks { frame, list, lines, organizations, may_create };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

/// A network leads to its devices.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn network(
    State(app): State<App>,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let network = app.ask(move |panel| panel.get(seat.actor, Id::<Network>::new(id))).await?;
    Ok(go(format!("/networks/{}/devices", network.id)))
}

#[derive(Debug, Template)]
#[template(path = "devices.html", blocks = ["list"])]
struct Devices {
    frame: Frame,
    site: Site,
    list: Rows<Device>,
    groups: Vec<String>,
    menus: Vec<String>,
    may_change: bool,
}

/// The devices of a network.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn devices(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::new(id));
    let found = app.ask(move |panel| {
        let site = Site::of(panel, actor, id)?;
        let list = rows::<Device>(panel, actor, &asked, Some(id))?;
        let groups = names::<Group>(panel, actor, Some(id))?;
        Ok((site, list, groups, names::<Menu>(panel, actor, Some(id))?))
    });
    let (site, list, groups, menus) = found.await?;
    let may_change = frame.may_in(Verb::Change, Noun::Device, id);
    let whole = Devices { frame, site, list, groups, menus, may_change };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "vdisks.html", blocks = ["list"])]
struct Vdisks {
    frame: Frame,
    site: Site,
    list: Rows<Vdisk>,
    servers: Vec<String>,
    may_change: bool,
}

/// The vDisks of a network.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn vdisks(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::new(id));
    let found = app.ask(move |panel| {
        let site = Site::of(panel, actor, id)?;
        let list = rows::<Vdisk>(panel, actor, &asked, Some(id))?;
        Ok((site, list, names::<Server>(panel, actor, Some(id))?))
    });
    let (site, list, servers) = found.await?;
    let may_change = frame.may_in(Verb::Change, Noun::Vdisk, id);
    let whole = Vdisks { frame, site, list, servers, may_change };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "menus.html", blocks = ["list"])]
struct Menus {
    frame: Frame,
    site: Site,
    list: Rows<Menu>,
    may_change: bool,
}

/// The menus of a network.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn menus(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::new(id));
    let found = app.ask(move |panel| {
        Ok((Site::of(panel, actor, id)?, rows::<Menu>(panel, actor, &asked, Some(id))?))
    });
    let (site, list) = found.await?;
    let may_change = frame.may_in(Verb::Change, Noun::Menu, id);
    let whole = Menus { frame, site, list, may_change };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

#[derive(Debug, Template)]
#[template(path = "settings.html", blocks = ["list"])]
struct Settings {
    frame: Frame,
    site: Site,
    list: Rows<Subnet>,
    may_change: bool,
    may_rename: bool,
    may_delete: bool,
}

/// The subnets of a network, and the network itself.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn settings(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::new(id));
    let found = app.ask(move |panel| {
        Ok((Site::of(panel, actor, id)?, rows::<Subnet>(panel, actor, &asked, Some(id))?))
    });
    let (site, list) = found.await?;
    let may_change = frame.may_in(Verb::Change, Noun::Subnet, id);
    let may_rename = frame.may_in(Verb::Change, Noun::Network, id);
    let may_delete = frame.may_in(Verb::Delete, Noun::Network, id);
    let whole = Settings { frame, site, list, may_change, may_rename, may_delete };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

/// A volume and the groups that are clones of it.
#[derive(Debug, Clone)]
struct Branch {
    volume: Stored<Volume>,
    groups: Vec<Leaf>,
}

/// A group and how many devices each of its generations has.
#[derive(Debug, Clone)]
struct Leaf {
    group: Stored<Group>,
    generations: Vec<Generation>,
    devices: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Generation {
    number: u32,
    production: bool,
    test: bool,
    devices: usize,
}

#[derive(Debug, Template)]
#[template(path = "tree.html", blocks = ["list"])]
struct Tree {
    frame: Frame,
    site: Site,
    branches: Vec<Branch>,
    may_change: bool,
}

/// The storage tree of a network.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn tree(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let (actor, id) = (seat.actor, Id::new(id));
    let found =
        app.ask(move |panel| Ok((Site::of(panel, actor, id)?, branches(panel, actor, id)?)));
    let (site, branches) = found.await?;
    let may_change = frame.may_in(Verb::Change, Noun::Volume, id);
    let whole = Tree { frame, site, branches, may_change };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

fn branches(panel: &Panel, actor: Actor, id: Id<Network>) -> Result<Vec<Branch>, Error> {
    let query = ListQuery { network: Some(id), limit: Some(200), ..ListQuery::default() };
    let groups = panel.list::<Group>(actor, &query)?.rows;
    let leaves: Vec<Leaf> =
        groups.into_iter().map(|group| leaf(panel, actor, id, group)).collect::<Result<_, _>>()?;
    let volumes = panel.list::<Volume>(actor, &query)?.rows;
    let branch = |volume: Stored<Volume>| Branch {
        groups: leaves
            .iter()
            .filter(|leaf| leaf.group.value.volume == volume.value.name)
            .cloned()
            .collect(),
        volume,
    };
    Ok(volumes.into_iter().map(branch).collect())
}

/// How devices spread over the generations follows from the pointers, but for those that are pinned or boot the test.
fn leaf(
    panel: &Panel,
    actor: Actor,
    network: Id<Network>,
    group: Stored<Group>,
) -> Result<Leaf, Error> {
    let mut query = ListQuery {
        network: Some(network),
        filters: vec![("group".to_owned(), group.value.name.to_string())],
        limit: Some(200),
        ..ListQuery::default()
    };
    let mut counts = std::collections::BTreeMap::<u32, usize>::new();
    let mut devices = 0;
    loop {
        let page = panel.list::<Device>(actor, &query)?;
        for device in &page.rows {
            *counts.entry(generation_of(&group.value, &device.value)).or_default() += 1;
            devices += 1;
        }
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    let generation = |number: &u32| Generation {
        number: *number,
        production: group.value.production == *number,
        test: group.value.test == Some(*number),
        devices: counts.get(number).copied().unwrap_or_default(),
    };
    let generations = group.value.generations.iter().rev().map(generation).collect();
    Ok(Leaf { group, generations, devices })
}

/// The generation that a device boots next.
pub fn generation_of(group: &Group, device: &Device) -> u32 {
    let test = group.test.filter(|_| device.test);
    device.pinned.or(test).unwrap_or(group.production)
}
