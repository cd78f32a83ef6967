//! Reads targets back out of configfs. It changes nothing, and calls an export whole only when everything that [`super`]
//! makes is there and nothing else; an entry for an initiator stands and falls by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use model::{
    boot::{Backing, Chap, Export, Secret},
    name::{IQN_PREFIX, Iqn},
    observed::Target,
};

use super::{
    BACKSTORE_SETTINGS, Error, HBA, Lio, Result, Setting, TPG_SETTINGS, acl_path, backstore_path,
    iscsi_path, tpg_path,
    tree::{Kind, Tree},
};

/// A target's ACLs as they stand; `None` for one that is not whole.
pub(super) struct Acls {
    pub(super) chaps: BTreeMap<String, Option<Arc<Chap>>>,
    pub(super) sessions: BTreeMap<Iqn, Option<Ipv4Addr>>,
}

impl<T: Tree> Lio<T> {
    /// The targets that carry our prefix, and backing objects of ours that no target shows any more (as targets without an
    /// export, so that they are taken away).
    pub fn observe(&self) -> Result<BTreeMap<Iqn, Target>> {
        let mut targets = BTreeMap::new();
        for name in self.dirs("iscsi")? {
            if !name.starts_with(IQN_PREFIX) {
                continue;
            }
            match name.parse::<Iqn>() {
                Ok(iqn) => {
                    let target = self.observe_target(&iqn)?;
                    targets.insert(iqn, target);
                }
                Err(error) => {
                    tracing::warn!(%error, "a target carries our prefix and a name that we never give")
                }
            }
        }
        for name in self.dirs(&format!("core/{HBA}"))? {
            if let Ok(iqn) = format!("{IQN_PREFIX}{name}").parse::<Iqn>() {
                targets.entry(iqn).or_insert_with(|| Target {
                    export: None,
                    portals: BTreeSet::new(),
                    sessions: BTreeMap::new(),
                });
            }
        }
        Ok(targets)
    }

    fn observe_target(&self, iqn: &Iqn) -> Result<Target> {
        let tpg = tpg_path(iqn);
        let (portals, foreign_portals) = self.portals(&tpg)?;
        let acls = self.acls(iqn)?;
        let export = if foreign_portals.is_empty() { self.whole(iqn, &acls)? } else { None };
        Ok(Target { export, portals, sessions: acls.sessions })
    }

    fn whole(&self, iqn: &Iqn, acls: &Acls) -> Result<Option<Export>> {
        let Some((backing, serial)) = self.skeleton(iqn)? else { return Ok(None) };
        let tpg = tpg_path(iqn);
        let settled = self.settled(&tpg, TPG_SETTINGS)?
            && self.settled(&backstore_path(iqn), BACKSTORE_SETTINGS)?
            && self.read(&format!("{tpg}/param/AuthMethod"))? == "CHAP"
            && self.read(&format!("{tpg}/enable"))? == "1"
            && self.read(&format!("{tpg}/dynamic_sessions"))?.is_empty();
        if !settled {
            return Ok(None);
        }
        let mut chaps = BTreeMap::new();
        for (initiator, chap) in &acls.chaps {
            let Ok(initiator) = initiator.parse() else { return Ok(None) };
            chaps.insert(initiator, chap.clone().unwrap_or_else(no_secrets));
        }
        Ok(Some(Export { target: iqn.clone(), backing, serial, acls: chaps }))
    }

    /// What LUN 0 shows and its serial number, when the backing object, the portal group and the LUN are as we make them
    /// and nothing stands beside them.
    pub(super) fn skeleton(&self, iqn: &Iqn) -> Result<Option<(Backing, String)>> {
        let backstore = backstore_path(iqn);
        let tpgs: Vec<_> = self.dirs(&iscsi_path(iqn))?;
        let tpgs: Vec<_> = tpgs.iter().filter(|name| name.starts_with("tpgt_")).collect();
        let lun = format!("{}/lun", tpg_path(iqn));
        if tpgs != ["tpgt_1"]
            || self.dirs(&lun)? != ["lun_0"]
            || self.linked(&format!("{lun}/lun_0"))?.as_deref() != Some(&backstore)
            || self.read(&format!("{backstore}/enable"))? != "1"
        {
            return Ok(None);
        }
        let path = self.read(&format!("{backstore}/udev_path"))?;
        let Some(backing) = parse_device_path(&path) else { return Ok(None) };
        let serial = self.read(&format!("{backstore}/wwn/vpd_unit_serial"))?;
        let Some((_, serial)) = serial.split_once("Serial Number: ") else {
            return Err(Error::Unexpected {
                path: format!("{backstore}/wwn/vpd_unit_serial"),
                text: serial,
            });
        };
        let info = self.read(&format!("{backstore}/info"))?;
        let read_only = parse_read_only(&info)
            .ok_or(Error::Unexpected { path: format!("{backstore}/info"), text: info })?;
        Ok((read_only == backing.read_only()).then(|| (backing, serial.to_owned())))
    }

    /// The portals, and the names of those that are not IPv4 sockets.
    pub(super) fn portals(&self, tpg: &str) -> Result<(BTreeSet<SocketAddrV4>, Vec<String>)> {
        let mut portals = BTreeSet::new();
        let mut foreign = Vec::new();
        for name in self.dirs(&format!("{tpg}/np"))? {
            match name.parse() {
                Ok(portal) => drop(portals.insert(portal)),
                Err(_) => foreign.push(name),
            }
        }
        Ok((portals, foreign))
    }

    pub(super) fn acls(&self, iqn: &Iqn) -> Result<Acls> {
        let mut acls = Acls { chaps: BTreeMap::new(), sessions: BTreeMap::new() };
        let read_only = self.read_only(iqn)?;
        for name in self.dirs(&format!("{}/acls", tpg_path(iqn)))? {
            let acl = acl_path(iqn, &name);
            let info = self.read(&format!("{acl}/info"))?;
            if let (Ok(initiator), true) = (name.parse(), parse_logged_in(&info)) {
                acls.sessions.insert(initiator, parse_address(&info));
            }
            let chap = self.acl(iqn, &acl, read_only)?;
            acls.chaps.insert(name, chap);
        }
        Ok(acls)
    }

    pub(super) fn acl(
        &self,
        iqn: &Iqn,
        acl: &str,
        read_only: Option<bool>,
    ) -> Result<Option<Arc<Chap>>> {
        let lun = format!("{acl}/lun_0");
        let luns: Vec<_> = self.dirs(acl)?;
        let luns: Vec<_> = luns.iter().filter(|name| name.starts_with("lun_")).collect();
        let mapped = format!("{}/lun/lun_0", tpg_path(iqn));
        if luns != ["lun_0"]
            || self.linked(&lun)?.as_deref() != Some(&mapped)
            || Some(self.read(&format!("{lun}/write_protect"))? == "1") != read_only
            || self.read(&format!("{acl}/attrib/authentication"))? == "0"
        {
            return Ok(None);
        }
        let auth = |name: &str| self.read(&format!("{acl}/auth/{name}"));
        let chap = Chap {
            user: auth("userid")?,
            password: Secret::new(auth("password")?),
            target_user: auth("userid_mutual")?,
            target_password: Secret::new(auth("password_mutual")?),
        };
        let complete = ![&chap.user, &chap.target_user].iter().any(|text| text.is_empty())
            && ![&chap.password, &chap.target_password].iter().any(|s| s.reveal().is_empty());
        Ok(complete.then(|| Arc::new(chap)))
    }

    pub(super) fn read_only(&self, iqn: &Iqn) -> Result<Option<bool>> {
        match self.tree.read(&format!("{}/info", backstore_path(iqn))) {
            Ok(info) => Ok(parse_read_only(&info)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => {
                Err(Error::Read { path: format!("{}/info", backstore_path(iqn)), source })
            }
        }
    }

    fn settled(&self, base: &str, settings: &[Setting]) -> Result<bool> {
        for setting in settings {
            if self.read(&format!("{base}/{}", setting.path))? != setting.shown {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the only link in a LUN's directory leads.
    fn linked(&self, lun: &str) -> Result<Option<String>> {
        let links = self.names(lun, Kind::Link)?;
        let [link] = links.as_slice() else { return Ok(None) };
        let path = format!("{lun}/{link}");
        self.tree.resolve(&path).map(Some).map_err(|source| Error::Read { path, source })
    }

    pub(super) fn read(&self, path: &str) -> Result<String> {
        self.tree.read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
    }

    pub(super) fn dirs(&self, path: &str) -> Result<Vec<String>> {
        self.names(path, Kind::Dir)
    }

    /// The names of one kind in a directory; none when the directory is not there.
    pub(super) fn names(&self, path: &str, wanted: Kind) -> Result<Vec<String>> {
        match self.tree.list(path) {
            Ok(names) => {
                Ok(names.into_iter().filter(|(_, kind)| *kind == wanted).map(|(n, _)| n).collect())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::Read { path: path.to_owned(), source }),
        }
    }
}

fn parse_device_path(path: &str) -> Option<Backing> {
    let name = path.strip_prefix("/dev/zvol/")?;
    if name.contains('@') {
        name.parse().ok().map(Backing::Snapshot)
    } else {
        name.parse().ok().map(Backing::Zvol)
    }
}

/// What an entry that is not whole reads as, left by an agent that was ended while it made it: no boot has such secrets, so that it is
/// made anew or taken away by itself, and all others who use the target go on.
fn no_secrets() -> Arc<Chap> {
    let (password, target_password) = (Secret::new(""), Secret::new(""));
    Arc::new(Chap { user: String::new(), password, target_user: String::new(), target_password })
}

/// `readonly: 1` in an iblock object's `info` (iblock_show_configfs_dev_params in the kernel).
fn parse_read_only(info: &str) -> Option<bool> {
    let (_, rest) = info.rsplit_once("readonly: ")?;
    match rest.split_whitespace().next()? {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// Whether an ACL's `info` tells of a session that is logged in (lio_target_nacl_info_show in the kernel).
fn parse_logged_in(info: &str) -> bool {
    info.contains("Session State: TARG_SESS_STATE_LOGGED_IN")
}

/// The address of the session's first connection, from the same text; a session that is between two connections has none.
fn parse_address(info: &str) -> Option<Ipv4Addr> {
    let (_, rest) = info.split_once("   Address ")?;
    rest.split_whitespace().next()?.parse().ok()
}
