//! Who may do what. [`least`] is the only table, and the operations ask nothing else; so pages, API, live events, search, exports
//! and jobs can't differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::noun::{Id, Network, Noun, Organization, Place, User};

/// A role on one network.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees it.
    Viewer,
    /// Looks after its devices.
    Technician,
    /// Looks after all of it.
    Admin,
}

/// What a user is, before any role on a network.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Has the roles that were given, and no more.
    Member,
    /// Has all of their organization.
    OrganizationAdmin,
    /// Has all of the panel.
    Superadmin,
}

/// What somebody counts for at one place, lowest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rank {
    /// Belongs to the organization.
    Member,
    /// Viewer of the network.
    Viewer,
    /// Technician of the network.
    Technician,
    /// Admin of the network.
    Admin,
    /// Admin of the organization.
    OrganizationAdmin,
    /// Superadmin.
    Superadmin,
}

/// What is done to a record.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Seeing it: in lists, pages, exports, the audit log, previews.
    Read,
    /// Making one.
    Create,
    /// Changing it.
    Change,
    /// Deleting it.
    Delete,
}

impl Verb {
    /// All.
    pub const ALL: [Self; 4] = [Self::Read, Self::Create, Self::Change, Self::Delete];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
        }
    }
}

/// The table: the least rank, at the place where the record lives, that may do this. Creating happens at the place that the new
/// record will live in; a network is created in its organization.
pub fn least(verb: Verb, noun: Noun) -> Rank {
    use Noun::{
        Device, Group, Menu, Network, Organization, Server, Subnet, Tunnel, User, Vdisk, Volume,
    };
    match (noun, verb) {
        (Organization | Tunnel, Verb::Read) => Rank::Member,
        (Organization, Verb::Create | Verb::Change | Verb::Delete) => Rank::Superadmin,
        (User, Verb::Read | Verb::Create | Verb::Change | Verb::Delete) => Rank::OrganizationAdmin,
        (Network, Verb::Read) => Rank::Viewer,
        (Network, Verb::Change) => Rank::Admin,
        (Network, Verb::Create | Verb::Delete) => Rank::OrganizationAdmin,
        (Tunnel, Verb::Create | Verb::Change | Verb::Delete) => Rank::Superadmin,
        (Device | Vdisk, Verb::Create | Verb::Change | Verb::Delete) => Rank::Technician,
        (Subnet | Server | Volume | Group | Menu, Verb::Create | Verb::Change | Verb::Delete) => {
            Rank::Admin
        }
        (Subnet | Server | Volume | Group | Vdisk | Menu | Device, Verb::Read) => Rank::Viewer,
    }
}

/// What is somebody's business and is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// What somebody has to look after.
    Alert,
    /// A channel of notices, with what was sent through it.
    Channel,
    /// The panel's own settings, and its backup.
    Settings,
}

impl Matter {
    /// All.
    pub const ALL: [Self; 3] = [Self::Alert, Self::Channel, Self::Settings];
}

/// The table of matters: the least rank, at the place where the matter lives, that may do this. Alerts come and go by themselves.
pub fn least_of(verb: Verb, matter: Matter, place: Place) -> Rank {
    match (matter, verb, place) {
        (Matter::Alert, Verb::Read, Place::Network(_)) => Rank::Viewer,
        (Matter::Alert, Verb::Read, Place::Organization(_)) => Rank::OrganizationAdmin,
        (Matter::Alert, _, _) | (Matter::Settings, _, _) => Rank::Superadmin,
        (Matter::Channel, _, _) => Rank::OrganizationAdmin,
    }
}

/// Who asks, as the store knows them at that moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Standings {
    /// Who; absent for the panel itself.
    pub user: Option<Id<User>>,
    /// As the audit log names them.
    pub name: String,
    /// What they are.
    pub standing: Standing,
    /// Where they belong; a superadmin may belong nowhere.
    pub organization: Option<Id<Organization>>,
    /// Their roles.
    pub roles: Vec<(Id<Network>, Role)>,
    /// What the token that they came with is limited to.
    pub limit: Option<Limit>,
}

/// What an API token is limited to, whatever its owner may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// The most it counts for.
    pub most: Rank,
    /// The only network it sees.
    pub network: Option<Id<Network>>,
}

impl Standings {
    /// What they count for at a place. `owner` is the organization that a network belongs to.
    pub fn rank(&self, place: Place, owner: Option<Id<Organization>>) -> Option<Rank> {
        let rank = self.unlimited(place, owner)?;
        match self.limit {
            None => Some(rank),
            Some(Limit { most, network: None }) => Some(rank.min(most)),
            Some(Limit { most, network: Some(network) }) => {
                (place == Place::Network(network)).then(|| rank.min(most))
            }
        }
    }

    fn unlimited(&self, place: Place, owner: Option<Id<Organization>>) -> Option<Rank> {
        match self.standing {
            Standing::Superadmin => return Some(Rank::Superadmin),
            Standing::OrganizationAdmin | Standing::Member => {}
        }
        let home = match place {
            // At the panel itself everybody but a superadmin is a guest.
            Place::Panel => return Some(Rank::Member),
            Place::Organization(organization) => self.organization == Some(organization),
            Place::Network(_) => owner.is_some() && self.organization == owner,
        };
        if self.standing == Standing::OrganizationAdmin {
            return home.then_some(Rank::OrganizationAdmin);
        }
        match place {
            Place::Panel => Some(Rank::Member),
            Place::Organization(_) => home.then_some(Rank::Member),
            Place::Network(network) => {
                let role = self.roles.iter().find(|(at, _)| *at == network).map(|(_, role)| *role);
                role.map(|role| match role {
                    Role::Viewer => Rank::Viewer,
                    Role::Technician => Rank::Technician,
                    Role::Admin => Rank::Admin,
                })
            }
        }
    }

    /// Whether they stand above everybody, and came with nothing that limits that.
    pub fn is_superadmin(&self) -> bool {
        let unlimited = Limit { most: Rank::Superadmin, network: None };
        self.standing == Standing::Superadmin && self.limit.is_none_or(|limit| limit == unlimited)
    }

    /// Whether they may do this there.
    pub fn may(
        &self,
        verb: Verb,
        noun: Noun,
        place: Place,
        owner: Option<Id<Organization>>,
    ) -> bool {
        self.rank(place, owner).is_some_and(|rank| rank >= least(verb, noun))
    }

    /// Whether they may do this in a matter there.
    pub fn may_in(
        &self,
        verb: Verb,
        matter: Matter,
        place: Place,
        owner: Option<Id<Organization>>,
    ) -> bool {
        self.rank(place, owner).is_some_and(|rank| rank >= least_of(verb, matter, place))
    }
}

#[cfg(test)]
mod tests;
