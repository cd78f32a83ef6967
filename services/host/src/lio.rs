//! The kernel's iSCSI target, LIO, through configfs. It owns targets that carry our IQN prefix and the backing objects in
//! an HBA of our own; it must never touch any other. Calls block for some milliseconds: run them off the async threads.
//!
//! One export is one target with one portal group, one LUN and one backing object, named after the target.

mod observe;
#[cfg(test)]
mod tests;
mod tree;

use std::{collections::BTreeSet, io, net::SocketAddrV4};

use model::{
    boot::{Acls, Chap, Export},
    name::{IQN_PREFIX, Iqn},
};

pub use tree::{Configfs, Kind, Tree};

/// The HBA of our backing objects. Its number is far from the lowest free one, which targetcli takes for its own.
const HBA: &str = "iblock_2601";

/// An attribute, what is written to it, and what it then shows.
struct Setting {
    path: &'static str,
    value: &'static str,
    shown: &'static str,
}

const fn setting(path: &'static str, value: &'static str) -> Setting {
    Setting { path, value, shown: value }
}

/// Everybody proves itself, nobody is let in or told of the target without an ACL.
const TPG_SETTINGS: &[Setting] = &[
    setting("attrib/authentication", "1"),
    setting("attrib/generate_node_acls", "0"),
    setting("attrib/cache_dynamic_acls", "0"),
    setting("attrib/demo_mode_discovery", "0"),
    setting("attrib/demo_mode_write_protect", "1"),
    setting("attrib/default_cmdsn_depth", "64"),
    // Small writes then need no round trip of their own.
    setting("param/InitialR2T", "No"),
    setting("param/ImmediateData", "Yes"),
];

/// Takes from initiators what would let one of them lock the others out of a shared LUN (persistent reservations, SET
/// TARGET PORT GROUPS) or read another LUN by the server's hand (EXTENDED COPY).
const BACKSTORE_SETTINGS: &[Setting] = &[
    setting("attrib/emulate_pr", "0"),
    setting("attrib/emulate_3pc", "0"),
    Setting { path: "alua/default_tg_pt_gp/alua_access_type", value: "1", shown: "Implicit" },
];

/// Why LIO was not read or changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's modules are not loaded, or configfs is not mounted.
    #[error(
        "no LIO at {path}: load target_core_mod, target_core_iblock and iscsi_target_mod, and mount configfs"
    )]
    Missing {
        /// What could not be made.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A directory, attribute or link can't be read.
    #[error("can't read {path} of LIO")]
    Read {
        /// Relative to `target`.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An attribute does not take a value. The value is not shown: it may be a secret.
    #[error("can't write {path} of LIO")]
    Write {
        /// Relative to `target`.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An object or link can't be made.
    #[error("can't make {path} of LIO")]
    Make {
        /// Relative to `target`.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An object or link can't be taken away.
    #[error("can't remove {path} of LIO")]
    Remove {
        /// Relative to `target`.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An attribute shows something that this code does not know.
    #[error("{path} of LIO reads {text:?}, which is not understood")]
    Unexpected {
        /// Relative to `target`.
        path: String,
        /// What stands there.
        text: String,
    },
    /// A target without our prefix.
    #[error("{0} is not a target of ours")]
    NotOurs(Iqn),
    /// A target that should let initiators in is not there.
    #[error("target {0} is not there")]
    NoTarget(Iqn),
    /// LIO would not keep this text as it is, or the pair would prove nothing.
    #[error(
        "the CHAP secrets for {0} can't be used: each must be 1 to 255 printable characters, not begin with NULL, and the two passwords must differ"
    )]
    Chap(Iqn),
    /// A target is not gone altogether.
    #[error("{target} could not be taken down: {}", chains(.failures))]
    TearDown {
        /// Which.
        target: Iqn,
        /// Everything that failed on the way.
        failures: Vec<Error>,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Make { .. }
            | Self::Remove { .. }
            | Self::NoTarget(_)
            | Self::TearDown { .. } => true,
            Self::Unexpected { .. } | Self::NotOurs(_) | Self::Chap(_) => false,
        }
    }
}

fn chains(failures: &[Error]) -> String {
    let chain = |error: &Error| {
        let source = std::error::Error::source(error);
        source.map_or(error.to_string(), |source| format!("{error}: {source}"))
    };
    failures.iter().map(chain).collect::<Vec<_>>().join("; ")
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// LIO on this machine.
#[derive(Debug, Clone)]
pub struct Lio<T = Configfs> {
    tree: T,
}

impl Lio<Configfs> {
    /// LIO under the configfs that is mounted at `mount`, usually `/sys/kernel/config`.
    pub fn new(mount: impl AsRef<std::path::Path>) -> Self {
        Self { tree: Configfs::new(mount) }
    }
}

impl<T: Tree> Lio<T> {
    /// LIO through another door.
    pub fn with_tree(tree: T) -> Self {
        Self { tree }
    }

    /// Brings a target to this state. What is right already is left alone, so that sessions of initiators whose ACL stays
    /// as it is go on; an initiator with new secrets loses its session.
    pub fn export(&self, export: &Export, portals: &BTreeSet<SocketAddrV4>) -> Result<()> {
        let iqn = &export.target;
        if !iqn.is_ours() {
            return Err(Error::NotOurs(iqn.clone()));
        }
        for (initiator, chap) in &export.acls {
            check_chap(initiator, chap)?;
        }
        if self.skeleton(iqn)? != Some((export.backing.clone(), export.serial.clone())) {
            self.unexport(iqn)?;
            self.build(export)?;
        }
        self.settle(&backstore_path(iqn), BACKSTORE_SETTINGS)?;
        self.settle(&tpg_path(iqn), TPG_SETTINGS)?;
        self.converge_portals(iqn, portals)?;
        self.converge_acls(export)?;
        self.ensure_value(&format!("{}/enable", tpg_path(iqn)), "1", "1")
    }

    /// Lets initiators into a target that stands, and others out; of all others nothing is even read. An initiator with new
    /// secrets loses its session.
    pub fn set_acls(&self, iqn: &Iqn, set: &Acls, remove: &BTreeSet<Iqn>) -> Result<()> {
        if !iqn.is_ours() {
            return Err(Error::NotOurs(iqn.clone()));
        }
        let read_only = self.read_only(iqn)?.ok_or_else(|| Error::NoTarget(iqn.clone()))?;
        let mut changed = Vec::new();
        for (initiator, chap) in set {
            check_chap(initiator, chap)?;
            let now = self.acl(iqn, &acl_path(iqn, initiator.as_str()), Some(read_only))?;
            if now.as_ref() != Some(chap) {
                changed.push((initiator, chap));
            }
        }
        let mut failures = Failures::default();
        for initiator in changed.iter().map(|(initiator, _)| *initiator).chain(remove) {
            self.tear_down_acl(&acl_path(iqn, initiator.as_str()), &mut failures);
        }
        failures.of(iqn)?;
        for (initiator, chap) in changed {
            self.make_acl(iqn, read_only, initiator, chap)?;
        }
        Ok(())
    }

    /// Takes a target down with its sessions and its backing object. It goes on after a failure and reports all of them. A
    /// target that is not there is a success.
    pub fn unexport(&self, iqn: &Iqn) -> Result<()> {
        if !iqn.is_ours() {
            return Err(Error::NotOurs(iqn.clone()));
        }
        let mut failures = Failures::default();
        let target = iscsi_path(iqn);
        let groups = failures.note(self.dirs(&target)).unwrap_or_default();
        for group in groups.iter().filter(|name| name.starts_with("tpgt_")) {
            self.tear_down_group(&format!("{target}/{group}"), &mut failures);
        }
        failures.note(self.remove(&target));
        failures.note(self.remove(&backstore_path(iqn)));
        failures.of(iqn)
    }

    fn tear_down_group(&self, group: &str, failures: &mut Failures) {
        let enable = format!("{group}/enable");
        // Disabling ends the sessions, before LUNs go from under their commands.
        if failures.note(self.read(&enable)).is_some_and(|value| value != "0") {
            failures.note(self.write(&enable, "0"));
        }
        for acl in failures.note(self.dirs(&format!("{group}/acls"))).unwrap_or_default() {
            self.tear_down_acl(&format!("{group}/acls/{acl}"), failures);
        }
        for lun in failures.note(self.dirs(&format!("{group}/lun"))).unwrap_or_default() {
            self.tear_down_lun(&format!("{group}/lun/{lun}"), failures);
        }
        for portal in failures.note(self.dirs(&format!("{group}/np"))).unwrap_or_default() {
            failures.note(self.remove(&format!("{group}/np/{portal}")));
        }
        failures.note(self.remove(group));
    }

    fn tear_down_acl(&self, acl: &str, failures: &mut Failures) {
        let luns = failures.note(self.dirs(acl)).unwrap_or_default();
        for lun in luns.iter().filter(|name| name.starts_with("lun_")) {
            self.tear_down_lun(&format!("{acl}/{lun}"), failures);
        }
        failures.note(self.remove(acl));
    }

    fn tear_down_lun(&self, lun: &str, failures: &mut Failures) {
        for link in failures.note(self.names(lun, Kind::Link)).unwrap_or_default() {
            let path = format!("{lun}/{link}");
            failures.note(self.tree.unlink(&path).map_err(|source| Error::Remove { path, source }));
        }
        failures.note(self.remove(lun));
    }

    /// Makes backing object, target, portal group and LUN; the portal group is left disabled.
    fn build(&self, export: &Export) -> Result<()> {
        let iqn = &export.target;
        for parent in [format!("core/{HBA}"), "iscsi".to_owned()] {
            self.ensure(&parent).map_err(|error| match error {
                Error::Make { path, source } => Error::Missing { path, source },
                other => other,
            })?;
        }
        let backstore = backstore_path(iqn);
        let device = export.backing.device_path();
        let read_only = u8::from(export.backing.read_only());
        self.ensure(&backstore)?;
        let control = format!("udev_path={device},readonly={read_only}");
        self.write(&format!("{backstore}/control"), &control)?;
        self.write(&format!("{backstore}/udev_path"), &device)?;
        self.write(&format!("{backstore}/enable"), "1")?;
        // The kernel refuses a new serial number once a LUN shows the object.
        self.write(&format!("{backstore}/wwn/vpd_unit_serial"), &export.serial)?;
        self.settle(&backstore, BACKSTORE_SETTINGS)?;
        let discards = self.read(&format!("{backstore}/attrib/max_unmap_block_desc_count"))?;
        if !export.backing.read_only() && discards != "0" {
            self.write(&format!("{backstore}/attrib/emulate_tpu"), "1")?;
        }
        let target = iscsi_path(iqn);
        self.ensure(&target)?;
        self.tree.hide(&target).map_err(|source| Error::Write { path: target, source })?;
        let tpg = tpg_path(iqn);
        self.ensure(&tpg)?;
        self.settle(&tpg, TPG_SETTINGS)?;
        let lun = format!("{tpg}/lun/lun_0");
        self.ensure(&lun)?;
        self.link(&format!("{lun}/backing"), &backstore)
    }

    fn converge_portals(&self, iqn: &Iqn, wanted: &BTreeSet<SocketAddrV4>) -> Result<()> {
        let tpg = tpg_path(iqn);
        let (there, foreign) = self.portals(&tpg)?;
        for portal in wanted.difference(&there) {
            self.ensure(&format!("{tpg}/np/{portal}"))?;
        }
        let extra = there.difference(wanted).map(ToString::to_string).chain(foreign);
        for portal in extra {
            self.remove(&format!("{tpg}/np/{portal}"))?;
        }
        Ok(())
    }

    fn converge_acls(&self, export: &Export) -> Result<()> {
        let iqn = &export.target;
        let there = self.acls(iqn)?.chaps;
        let wanted = |name: &str| export.acls.iter().find(|(i, _)| i.as_str() == name);
        let mut failures = Failures::default();
        for (name, chap) in &there {
            if wanted(name).is_none_or(|(_, wanted)| Some(wanted) != chap.as_ref()) {
                self.tear_down_acl(&acl_path(iqn, name), &mut failures);
            }
        }
        failures.of(iqn)?;
        for (initiator, chap) in &export.acls {
            if there.get(initiator.as_str()).is_none_or(|found| found.as_ref() != Some(chap)) {
                self.make_acl(iqn, export.backing.read_only(), initiator, chap)?;
            }
        }
        Ok(())
    }

    /// Makes an ACL: secrets before the LUN, for the portal group may be enabled while this runs. Until the last secret is
    /// written, the kernel refuses the login.
    fn make_acl(&self, iqn: &Iqn, read_only: bool, initiator: &Iqn, chap: &Chap) -> Result<()> {
        let acl = acl_path(iqn, initiator.as_str());
        self.ensure(&acl)?;
        for (name, value) in [
            ("userid_mutual", chap.target_user.as_str()),
            ("password_mutual", chap.target_password.reveal()),
            ("userid", chap.user.as_str()),
            ("password", chap.password.reveal()),
        ] {
            self.write(&format!("{acl}/auth/{name}"), value)?;
        }
        let lun = format!("{acl}/lun_0");
        self.ensure(&lun)?;
        self.link(&format!("{lun}/lun"), &format!("{}/lun/lun_0", tpg_path(iqn)))?;
        let protect = if read_only { "1" } else { "0" };
        self.ensure_value(&format!("{lun}/write_protect"), protect, protect)
    }

    fn settle(&self, base: &str, settings: &[Setting]) -> Result<()> {
        for setting in settings {
            self.ensure_value(&format!("{base}/{}", setting.path), setting.value, setting.shown)?;
        }
        Ok(())
    }

    fn ensure_value(&self, path: &str, value: &str, shown: &str) -> Result<()> {
        if self.read(path)? == shown { Ok(()) } else { self.write(path, value) }
    }

    fn ensure(&self, path: &str) -> Result<()> {
        match self.tree.make(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(|source| Error::Make { path: path.to_owned(), source }),
        }
    }

    fn link(&self, path: &str, to: &str) -> Result<()> {
        self.tree.link(path, to).map_err(|source| Error::Make { path: path.to_owned(), source })
    }

    fn write(&self, path: &str, value: &str) -> Result<()> {
        self.tree
            .write(path, value)
            .map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    fn remove(&self, path: &str) -> Result<()> {
        match self.tree.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| Error::Remove { path: path.to_owned(), source }),
        }
    }
}

#[derive(Default)]
struct Failures(Vec<Error>);

impl Failures {
    fn note<V>(&mut self, result: Result<V>) -> Option<V> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// All of them as the one failure to take down, when there are any.
    fn of(self, target: &Iqn) -> Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Error::TearDown { target: target.clone(), failures: self.0 })
        }
    }
}

/// The kernel takes a text that begins with NULL as the order to forget the secret, and cuts one that is too long.
fn check_chap(initiator: &Iqn, chap: &Chap) -> Result<()> {
    let usable = |text: &str| {
        (1..=255).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
            && !text.starts_with("NULL")
    };
    let texts =
        [&*chap.user, chap.password.reveal(), &*chap.target_user, chap.target_password.reveal()];
    if texts.iter().all(|text| usable(text)) && chap.password != chap.target_password {
        Ok(())
    } else {
        Err(Error::Chap(initiator.clone()))
    }
}

fn backstore_path(iqn: &Iqn) -> String {
    format!("core/{HBA}/{}", iqn.as_str().trim_start_matches(IQN_PREFIX))
}

fn iscsi_path(iqn: &Iqn) -> String {
    format!("iscsi/{iqn}")
}

fn tpg_path(iqn: &Iqn) -> String {
    format!("iscsi/{iqn}/tpgt_1")
}

fn acl_path(iqn: &Iqn, initiator: &str) -> String {
    format!("iscsi/{iqn}/tpgt_1/acls/{initiator}")
}
