//! Why the database refused or failed; constraints are told as faults of a field, in words for people.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::noun::Noun;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// Which, for example `address` or `pools[0].disks`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldError {
    /// Names the fault of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened.
    #[error("can't open the database {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer panel made it.
    #[error("the database has schema {found}, and this panel knows {known}: use the newer panel")]
    Newer {
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// A schema can't be brought forward.
    #[error("can't bring the database from schema {from} to {}", from + 1)]
    Migrate {
        /// From which.
        from: usize,
        /// Why.
        source: rusqlite::Error,
    },
    /// Bringing a schema forward would leave rows that refer to nothing.
    #[error("bringing the database from schema {from} to {} breaks {rows} references", from + 1)]
    BrokenReferences {
        /// From which.
        from: usize,
        /// How many.
        rows: i64,
    },
    /// A row is not what this panel writes.
    #[error("the {noun} number {id} is damaged")]
    Damaged {
        /// Its kind.
        noun: Noun,
        /// Its number.
        id: i64,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value can't be written as JSON.
    #[error("can't write a record as JSON")]
    Json(#[source] serde_json::Error),
    /// What was asked for can't be: a name that is taken, a reference to nothing.
    #[error("{}: {}", .0.field, .0.message)]
    Field(FieldError),
    /// Something refers to what would go.
    #[error("something else still uses this")]
    InUse,
    /// A backup can't be written.
    #[error("can't write the backup {}", path.display())]
    Backup {
        /// Where.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A backup's path is not text.
    #[error("the path {} is not UTF-8", path.display())]
    BackupPath {
        /// Which.
        path: PathBuf,
    },
    /// The file is not whole.
    #[error("the database {} is damaged: {found}", path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong first, as SQLite says it.
        found: String,
    },
    /// The database failed.
    #[error("the database failed")]
    Sqlite(#[source] rusqlite::Error),
}

/// What SQLite says of a constraint (https://sqlite.org/rescode.html#constraint), the field, and what people are told.
pub(super) const CONSTRAINTS: &[(&str, &str, &str)] = &[
    ("UNIQUE constraint failed: organizations.name", "name", "this name is taken"),
    ("UNIQUE constraint failed: users.name", "name", "this name is taken"),
    ("UNIQUE constraint failed: api_tokens.user_id, api_tokens.name", "name", "this name is taken"),
    (
        "UNIQUE constraint failed: channels.organization_id, channels.name",
        "name",
        "the organization has a channel of this name",
    ),
    ("UNIQUE constraint failed: tunnels.name", "name", "this name is taken"),
    (
        "UNIQUE constraint failed: networks.organization_id, networks.name",
        "name",
        "the organization has a network of this name",
    ),
    (
        "UNIQUE constraint failed: network_tunnels.network_id, network_tunnels.tunnel_id",
        "tunnels",
        "name each tunnel once",
    ),
    (
        "UNIQUE constraint failed: user_roles.user_id, user_roles.network_id",
        "roles",
        "give one role for a network",
    ),
    (
        "UNIQUE constraint failed: subnets.network_id, subnets.name",
        "name",
        "the network has a subnet of this name",
    ),
    (
        "UNIQUE constraint failed: servers.network_id, servers.name",
        "name",
        "the network has a server of this name",
    ),
    (
        "UNIQUE constraint failed: servers.network_id",
        "primary",
        "the network has a primary server: make that one a replica first",
    ),
    (
        "UNIQUE constraint failed: server_interfaces.server_id, server_interfaces.subnet_id",
        "interfaces",
        "name each subnet once",
    ),
    (
        "UNIQUE constraint failed: server_interfaces.subnet_id, server_interfaces.address",
        "interfaces",
        "another server has this address",
    ),
    ("UNIQUE constraint failed: pools.server_id, pools.name", "pools", "name each pool once"),
    (
        "UNIQUE constraint failed: volumes.network_id, volumes.name",
        "name",
        "the network has a volume of this name",
    ),
    (
        "UNIQUE constraint failed: groups.network_id, groups.name",
        "name",
        "the network has a group of this name",
    ),
    (
        "UNIQUE constraint failed: vdisks.network_id, vdisks.name",
        "name",
        "the network has a vDisk of this name",
    ),
    (
        "UNIQUE constraint failed: menus.network_id, menus.name",
        "name",
        "the network has a menu of this name",
    ),
    (
        "UNIQUE constraint failed: devices.network_id, devices.name",
        "name",
        "the network has a device of this name",
    ),
    (
        "UNIQUE constraint failed: devices.subnet_id, devices.address",
        "address",
        "another device has this address",
    ),
    (
        "UNIQUE constraint failed: device_macs.network_id, device_macs.mac",
        "macs",
        "another device has this card",
    ),
    ("UNIQUE constraint failed: device_vdisks.vdisk_id", "vdisks", "another device has this vDisk"),
    (
        "NOT NULL constraint failed: network_tunnels.tunnel_id",
        "tunnels",
        "there is no tunnel of this name",
    ),
    (
        "NOT NULL constraint failed: user_roles.network_id",
        "roles",
        "the organization has no network of this name",
    ),
    (
        "NOT NULL constraint failed: server_interfaces.subnet_id",
        "interfaces",
        "the network has no subnet of this name",
    ),
    (
        "NOT NULL constraint failed: groups.volume_id",
        "volume",
        "the network has no volume of this name",
    ),
    ("NOT NULL constraint failed: vdisks.pool_id", "pool", "this server has no pool of this name"),
    (
        "NOT NULL constraint failed: devices.subnet_id",
        "network",
        "the network has no subnet of this name",
    ),
    (
        "NOT NULL constraint failed: devices.group_id",
        "group",
        "the network has no group of this name",
    ),
    (
        "NOT NULL constraint failed: device_vdisks.vdisk_id",
        "vdisks",
        "the network has no vDisk of this name",
    ),
    (
        "CHECK constraint failed: users_organization",
        "standing",
        "only a superadmin belongs to no organization",
    ),
];

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, Some(message)) = &error else {
            return Self::Sqlite(error);
        };
        if failure.code != ErrorCode::ConstraintViolation {
            return Self::Sqlite(error);
        }
        if message == "FOREIGN KEY constraint failed" {
            return Self::InUse;
        }
        match CONSTRAINTS.iter().find(|(constraint, _, _)| constraint == message) {
            Some((_, field, told)) => Self::Field(FieldError::new(*field, *told)),
            None => Self::Sqlite(error),
        }
    }
}
