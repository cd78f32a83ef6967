//! ZFS by its own commands: [`observe_pools`], [`observe_importable`] and [`observe_datasets`] read, the functions of [`apply`]
//! each make one step. Only machine-readable output is parsed, except where zpool has none. Nothing that lacks our mark, set
//! on the very dataset, is rolled back or destroyed: that is checked in the same transaction.

use std::{collections::BTreeMap, io, time::Duration};

use model::name::Dataset;

use crate::cmd;

pub mod apply;
mod begun;
mod making;
mod observe;
mod program;

pub use begun::Begun;
pub use making::Making;
pub use observe::{observe_datasets, observe_importable, observe_pools};

/// The user property that says what a dataset of ours is; it counts only where it is set on the dataset itself.
pub const MARK: &str = "org.clusterducks:id";

/// The user property that holds the boot for which an ephemeral clone was made new last.
pub const BOOT: &str = "org.clusterducks:boot";

/// Folder under which a pool's `files` is mounted.
pub const MOUNT_ROOT: &str = "/run/clusterducks/pools";

/// Where the file system of a pool is mounted.
pub fn mount_point(pool: &str) -> std::path::PathBuf {
    std::path::Path::new(MOUNT_ROOT).join(pool)
}

/// Why ZFS could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A command failed.
    #[error(transparent)]
    Command(#[from] cmd::Error),
    /// A tool's JSON is not as we know it.
    #[error("can't read the output of {command}")]
    Json {
        /// Which command.
        command: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A value in a tool's output is not as we know it.
    #[error("{object} has the {field} {value:?}, which can't be understood")]
    Value {
        /// The pool or dataset.
        object: String,
        /// The field.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// A line of `zpool import` is not as we know it.
    #[error("can't understand the line {line:?} of zpool import")]
    ImportLine {
        /// The line.
        line: String,
    },
    /// Another system used the pool last, and nothing in it is ours.
    #[error(
        "pool {pool} was used by another system and holds nothing of clusterducks: export it there, or destroy it"
    )]
    ForeignPool {
        /// Its name.
        pool: String,
    },
    /// A disk holds data that the document does not allow to be destroyed.
    #[error("disk {path} holds {contents}: say overwrite on this disk to destroy that")]
    DiskHoldsData {
        /// The disk.
        path: String,
        /// What stands on it.
        contents: String,
    },
    /// A disk can't be looked at.
    #[error(transparent)]
    Disk(#[from] crate::disks::Error),
    /// The note of pools that are being made can't be read or written.
    #[error("no access to the note of the pools that are being made")]
    Note(#[from] crate::files::Error),
    /// A dataset is there and is not what the step means.
    #[error("{dataset} is there already and does not carry the mark {mark}")]
    NotOurs {
        /// The dataset.
        dataset: Dataset,
        /// The mark that it should carry.
        mark: String,
    },
    /// Growing would make a zvol smaller.
    #[error("{dataset} has {now_bytes} bytes and is never made smaller ({wanted_bytes} bytes)")]
    WouldShrink {
        /// The zvol.
        dataset: Dataset,
        /// Its size.
        now_bytes: u64,
        /// The size that was asked for.
        wanted_bytes: u64,
    },
    /// udev did not make a device node.
    #[error("{path} did not appear within {} s", waited.as_secs())]
    NoDevice {
        /// The node.
        path: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Some datasets of a batch failed; all others were done.
    #[error("failed: {}", list(.0))]
    Refused(BTreeMap<Dataset, Refusal>),
}

fn list(refused: &BTreeMap<Dataset, Refusal>) -> String {
    let each: Vec<String> = refused.iter().map(|(name, why)| format!("{name} {why}")).collect();
    each.join("; ")
}

/// Why a channel program left a dataset as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum Refusal {
    /// We refuse it.
    Rule(Rule),
    /// ZFS refuses it, with this error number.
    Errno(i32),
}

/// Our own reasons to leave a dataset as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It is not there, or its `@clean` is not.
    Missing,
    /// It does not carry the mark that it should.
    Unmarked,
    /// It has a snapshot that is newer than `@clean`.
    NewerSnapshot,
    /// One of its snapshots has a clone.
    HasClones,
    /// It has datasets below it.
    HasChildren,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rule(Rule::Missing) => f.write_str("is not there, or was never made whole"),
            Self::Rule(Rule::Unmarked) => f.write_str("does not carry our mark"),
            Self::Rule(Rule::NewerSnapshot) => f.write_str("has a snapshot newer than @clean"),
            Self::Rule(Rule::HasClones) => f.write_str("has a snapshot with clones"),
            Self::Rule(Rule::HasChildren) => f.write_str("has datasets below it"),
            Self::Errno(number) => {
                write!(f, "can't be changed: {}", io::Error::from_raw_os_error(*number))
            }
        }
    }
}

impl Error {
    /// Whether the same call can succeed later without any change to the document.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Command(error) => error.retryable(),
            Self::NoDevice { .. } | Self::Refused(_) | Self::Disk(_) | Self::Note(_) => true,
            Self::Json { .. }
            | Self::Value { .. }
            | Self::ImportLine { .. }
            | Self::ForeignPool { .. }
            | Self::DiskHoldsData { .. }
            | Self::NotOurs { .. }
            | Self::WouldShrink { .. } => false,
        }
    }
}
