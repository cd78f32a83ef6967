//! What a form shows beside its template: what stands in it, what is wrong with it, what somebody else made of it meanwhile, what it
//! would bring, and the names that there are to choose from.

use panel::{
    noun::{
        Group, Id, Menu, Network, Noun, Organization, Place, Server, Stored, Subnet, Tunnel, Volume,
    },
    operations::{Actor, Error, Panel, Preview},
    store::{FieldError, ListQuery},
};

use super::list::names;
use crate::{fields::Fields, problem::Problem, shapes::Shape};

/// A form as a page shows it.
#[derive(Debug, Clone, Default)]
pub struct FormView {
    /// What stands in it.
    pub fields: Fields,
    /// What is wrong.
    pub faults: Vec<FieldError>,
    /// The version that the change is made from.
    pub version: Option<u64>,
    /// What somebody else made of it meanwhile.
    pub overtaken: Vec<Difference>,
    /// What it would bring to the servers.
    pub previews: Option<Vec<Preview>>,
    /// It is shown, and can't be changed.
    pub locked: bool,
}

/// A field that two people gave different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub field: String,
    /// What was sent.
    pub mine: String,
    /// What it is now.
    pub theirs: String,
}

impl FormView {
    /// A form with something wrong in it.
    pub fn faulty(fields: Fields, faults: Vec<FieldError>) -> Self {
        Self { fields, faults, ..Self::default() }
    }

    /// A field's value.
    pub fn value(&self, name: &str) -> &str {
        self.fields.get(name)
    }

    /// Whether a box is ticked.
    pub fn ticked(&self, name: &str) -> bool {
        self.fields.has(name)
    }

    /// Whether what stands in a field is none of these.
    pub fn strange(&self, name: &str, options: &[String]) -> bool {
        let value = self.value(name);
        !value.is_empty() && !options.iter().any(|option| option == value)
    }

    /// Whether what was looked at would bring nothing to any server.
    pub fn nothing_changes(&self) -> bool {
        self.previews.iter().flatten().all(|preview| !preview.changes)
    }

    /// What is wrong with a field.
    pub fn fault(&self, name: &str) -> String {
        let of = self.faults.iter().filter(|fault| fault.field == name);
        of.map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// The numbers of the rows of a field, with `spare` empty ones to fill in.
    pub fn rows(&self, name: &str, spare: usize) -> Vec<usize> {
        let spare = if self.locked { 0 } else { spare };
        (0..self.fields.rows(name) + spare).collect()
    }
}

/// Names to choose from.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// Of subnets.
    pub subnets: Vec<String>,
    /// Of groups.
    pub groups: Vec<String>,
    /// Of volumes.
    pub volumes: Vec<String>,
    /// Of menus.
    pub menus: Vec<String>,
    /// Of servers.
    pub servers: Vec<String>,
    /// Of pools.
    pub pools: Vec<String>,
    /// Of networks.
    pub networks: Vec<String>,
    /// Of tunnels.
    pub tunnels: Vec<String>,
    /// Organizations, by number and name.
    pub organizations: Vec<(i64, String)>,
}

/// The networks that a user of this place may have a role on.
fn networks_of(panel: &Panel, actor: Actor, place: Place) -> Result<Vec<String>, Error> {
    let Place::Organization(organization) = place else {
        // The form still asks for the organization.
        let mut all = super::list::names::<Network>(panel, actor, None)?;
        all.sort_unstable();
        all.dedup();
        return Ok(all);
    };
    let organization = panel.get::<Organization>(actor, organization)?.value.name;
    let query = ListQuery {
        filters: vec![("organization".to_owned(), organization.to_string())],
        limit: Some(panel::store::MOST_ROWS),
        ..ListQuery::default()
    };
    let rows = panel.list::<Network>(actor, &query)?.rows;
    Ok(rows.into_iter().map(|row| row.value.name.to_string()).collect())
}

/// The names that a form of this noun offers.
pub(super) fn choices(
    panel: &Panel,
    actor: Actor,
    noun: Noun,
    place: Place,
) -> Result<Choices, Error> {
    let mut choices = Choices::default();
    let network = match place {
        Place::Network(network) => Some(network),
        Place::Panel | Place::Organization(_) => None,
    };
    match noun {
        Noun::Device => {
            choices.subnets = names::<Subnet>(panel, actor, network)?;
            choices.groups = names::<Group>(panel, actor, network)?;
            choices.menus = names::<Menu>(panel, actor, network)?;
        }
        Noun::Server => choices.subnets = names::<Subnet>(panel, actor, network)?,
        Noun::Volume | Noun::Vdisk => {
            let query = ListQuery { network, limit: Some(200), ..ListQuery::default() };
            for server in panel.list::<Server>(actor, &query)?.rows {
                choices.servers.push(server.value.name.to_string());
                choices.pools.extend(server.value.pools.iter().map(|pool| pool.name.to_string()));
            }
            choices.pools.sort_unstable();
            choices.pools.dedup();
        }
        Noun::Group => choices.volumes = names::<Volume>(panel, actor, network)?,
        Noun::User => choices.networks = networks_of(panel, actor, place)?,
        Noun::Network => choices.tunnels = names::<Tunnel>(panel, actor, None)?,
        Noun::Organization | Noun::Subnet | Noun::Tunnel | Noun::Menu => {}
    }
    if matches!(noun, Noun::User | Noun::Network) {
        let query = ListQuery { limit: Some(200), ..ListQuery::default() };
        let all = panel.list::<Organization>(actor, &query)?.rows;
        choices.organizations =
            all.into_iter().map(|row| (row.id.number(), row.value.name.to_string())).collect();
    }
    Ok(choices)
}

/// A network's page: what its tabs need.
#[derive(Debug, Clone)]
pub struct Site {
    /// The network.
    pub network: Stored<Network>,
    /// Whose it is.
    pub organization: Stored<Organization>,
}

impl Site {
    /// Looks it up.
    ///
    /// # Errors
    /// There is no such network that the actor may see.
    pub fn of(panel: &Panel, actor: Actor, network: Id<Network>) -> Result<Self, Error> {
        Ok(Self { network: panel.get(actor, network)?, organization: panel.owner(actor, network)? })
    }

    /// Of a record's place; nothing when it lives in no network.
    ///
    /// # Errors
    /// There is no such network that the actor may see.
    pub fn at(panel: &Panel, actor: Actor, place: Place) -> Result<Option<Self>, Error> {
        match place {
            Place::Network(network) => Self::of(panel, actor, network).map(Some),
            Place::Panel | Place::Organization(_) => Ok(None),
        }
    }

    /// Its number.
    pub fn id(&self) -> i64 {
        self.network.id.number()
    }
}

/// The fields in which what was sent differs from what is there now.
pub(super) fn differences<T: Shape>(
    mine: &Fields,
    current: serde_json::Value,
) -> Result<Vec<Difference>, Problem> {
    let theirs: T = serde_json::from_value(current).map_err(Problem::broken)?;
    let theirs = theirs.fields();
    let mut names: Vec<&str> = mine.names().chain(theirs.names()).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let differ = names.into_iter().filter(|name| mine.get(name) != theirs.get(name));
    Ok(differ
        .map(|name| Difference {
            field: name.to_owned(),
            mine: mine.get(name).to_owned(),
            theirs: theirs.get(name).to_owned(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_conflict_shows_what_differs_and_nothing_else() {
        let mut mine = Fields::default();
        mine.put("csrf", "secret");
        mine.put("name", "lab");
        mine.put("volume", "debian");
        mine.put("generations", "1 2");
        mine.put("production", 2);
        let theirs = json!({ "name": "lab", "volume": "debian", "generations": [1, 2], "production": 1,
            "test": 2 });
        let found = differences::<Group>(&mine, theirs).unwrap();
        let found: Vec<_> =
            found.iter().map(|d| (d.field.as_str(), d.mine.as_str(), d.theirs.as_str())).collect();
        assert_eq!(found, [("production", "2", "1"), ("test", "", "2")]);
    }
}
