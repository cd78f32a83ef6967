//! A simulated machine: a product mode (`clusterducks-agent --sim`) and what the laws of planning are tested on. It behaves
//! like the tools do, refusals included; it never touches the machine that it runs on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use model::{
    name::{Dataset, Iqn, Mac, Mark, PoolName, Snapshot},
    observed::{
        BootFiles, DatasetState, Disk, DiskContents, GenerationId, Job, Lease, Link, Observed,
        Pool, Target,
    },
    step::Step,
};

use crate::seam::{Error, Host};

/// Why the simulated machine refused a step, as the real tools would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// zfs: dataset does not exist.
    #[error("{0} does not exist")]
    Absent(String),
    /// zfs: dataset already exists.
    #[error("{0} already exists")]
    Exists(String),
    /// zfs: dataset is busy; an open LUN holds it.
    #[error("{0} is in use")]
    Busy(Dataset),
    /// Carries another mark than the step says, or none.
    #[error("{0} is not marked {1}")]
    NotOurs(Dataset, Mark),
    /// zpool: a disk holds something else.
    #[error("the disk {0} holds foreign data")]
    ForeignDisk(String),
}

type Sessions = BTreeMap<Iqn, Option<Ipv4Addr>>;

/// The simulated machine.
#[derive(Debug, Clone, Default)]
pub struct SimHost {
    /// Its whole state.
    pub state: Observed,
    /// Whether jobs end by themselves at the next observation, as they do on a machine that is not in a test's hands.
    pub jobs_end: bool,
}

impl SimHost {
    /// A server with one interface and one blank disk, whose jobs end by themselves.
    ///
    /// # Panics
    /// Never: the names are valid.
    pub fn demo() -> Self {
        let link = Link {
            name: "eth0".to_owned(),
            mac: "52:54:00:00:00:01".parse().expect("a valid address"),
            path: None,
            up: true,
            carrier: true,
            addresses: BTreeSet::new(),
            gateway: None,
            lease: None,
        };
        let disk = Disk {
            path: "/dev/sim0".to_owned(),
            serial: Some("SIM-0".to_owned()),
            size_bytes: 1 << 40,
            contents: DiskContents::Blank,
        };
        Self {
            state: Observed { links: vec![link], disks: vec![disk], ..Observed::default() },
            jobs_end: true,
        }
    }

    /// Ends every job that runs, well, and answers where addresses are asked for.
    pub fn end_jobs(&mut self) {
        self.answer_leases();
        for job in self.state.imports.values_mut() {
            if let Job::Running { source, .. } = job {
                *job = Job::Done { source: source.clone() };
            }
        }
        let running: Vec<GenerationId> = self
            .state
            .extractions
            .iter()
            .filter(|(_, job)| matches!(job, Job::Running { .. }))
            .map(|(generation, _)| generation.clone())
            .collect();
        for generation in running {
            self.state.extractions.remove(&generation);
            let digest = || "0".repeat(64).parse().expect("64 digits");
            let files = BootFiles {
                folder: format!("/sim/{generation}"),
                kernel_sha256: digest(),
                initrd_sha256: digest(),
                root_partition: 1,
            };
            self.state.boot_files.insert(generation, files);
        }
    }

    /// Power off and on: what lives in memory is gone, what lies on disks is not.
    pub fn restart(&mut self) {
        self.state.targets.clear();
        self.state.imports.clear();
        self.state.extractions.clear();
        self.state.dhcp = None;
        self.state.leasing.clear();
        self.state.resolvers.clear();
        self.state.time_servers.clear();
        self.state.clock_stopped = false;
        for link in &mut self.state.links {
            link.addresses.clear();
            link.gateway = None;
            link.lease = None;
        }
        for state in self.state.datasets.values_mut() {
            state.mounted = false;
        }
    }

    /// Does a step, or refuses it.
    ///
    /// # Errors
    /// The step makes no sense in this state.
    pub fn change(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::SetServerName(name) => self.state.server = Some(name.clone()),
            Step::Lease(macs) => self.lease(macs)?,
            Step::SetResolvers(servers) => self.state.resolvers = servers.clone(),
            Step::SetTimeServers(servers) => {
                self.state.time_servers = servers.clone();
                self.state.clock_stopped = false;
            }
            Step::SetLink { mac, add, remove, gateway } => {
                let link = self.state.links.iter_mut().find(|link| link.mac == *mac);
                let link = link.ok_or_else(|| Refusal::Absent(mac.to_string()))?;
                link.addresses.retain(|address| !remove.contains(address));
                link.addresses.extend(add);
                link.gateway = gateway.or(link.gateway);
                link.up = true;
            }
            Step::ImportPool { pool, guid } => self.import_pool(pool, *guid)?,
            Step::CreatePool { pool, disks, overwrite, .. } => {
                self.create_pool(pool, disks, overwrite)?
            }
            Step::CreateFolder { dataset, mark, mounted } => {
                self.create(dataset, DatasetState { mounted: *mounted, ..blank(mark) })?;
            }
            Step::Mount(dataset) => self.dataset(dataset)?.mounted = true,
            Step::CreateZvol { dataset, mark, size_bytes } => {
                self.create(
                    dataset,
                    DatasetState { volume_size_bytes: Some(*size_bytes), ..blank(mark) },
                )?;
            }
            Step::Grow { dataset, size_bytes } => {
                self.dataset(dataset)?.volume_size_bytes = Some(*size_bytes)
            }
            Step::TakeSnapshot(snapshot) => {
                if !self.dataset(&snapshot.dataset)?.snapshots.insert(snapshot.tag.clone()) {
                    return Err(Refusal::Exists(snapshot.to_string()));
                }
            }
            Step::Clone { origin, dataset, mark } => self.clone_snapshot(origin, dataset, mark)?,
            Step::ShowSnapshots(dataset) => self.dataset(dataset)?.snapdev_visible = true,
            Step::MakeNew(clones) => {
                for (dataset, boot) in clones {
                    self.closed(dataset)?;
                    let state = self.dataset(dataset)?;
                    if !state.snapshots.contains("clean") {
                        return Err(Refusal::Absent(format!("{dataset}@clean")));
                    }
                    state.boot = Some(boot.clone());
                }
            }
            Step::Destroy { dataset, mark } => self.destroy(dataset, mark)?,
            Step::StartImport { volume, dataset, source, .. } => {
                self.dataset(dataset)?;
                let job = running(Some(source.clone()));
                self.state.imports.insert(volume.clone(), job);
            }
            Step::StartExtraction { generation, snapshot, .. } => {
                self.exists(snapshot)?;
                self.state.extractions.insert(generation.clone(), running(None));
            }
            Step::Unexport(target) => drop(self.state.targets.remove(target)),
            Step::Export { export, portals } => {
                match &export.backing {
                    model::boot::Backing::Snapshot(snapshot) => self.exists(snapshot)?,
                    model::boot::Backing::Zvol(dataset) => drop(self.dataset(dataset)?),
                }
                let sessions = self.sessions(&export.target, export.acls.keys());
                let target =
                    Target { export: Some(export.clone()), portals: portals.clone(), sessions };
                self.state.targets.insert(export.target.clone(), target);
            }
            Step::SetAcls { target, set, remove } => {
                let absent = || Refusal::Absent(target.to_string());
                let standing = self.state.targets.get_mut(target).ok_or_else(absent)?;
                let acls = &mut standing.export.as_mut().ok_or_else(absent)?.acls;
                for initiator in set.keys().chain(remove) {
                    acls.remove(initiator);
                    standing.sessions.remove(initiator);
                }
                acls.extend(set.clone());
            }
            Step::ConfigureDhcp(config) => self.state.dhcp = Some(config.clone()),
            Step::StopDhcp => self.state.dhcp = None,
        }
        Ok(())
    }

    /// The address of a lease stays on its interface when it is not asked for any more: the worse case, which planning has to mend.
    fn lease(&mut self, macs: &BTreeSet<Mac>) -> Result<(), Refusal> {
        let here = |mac: &Mac| self.state.links.iter().any(|link| link.mac == *mac);
        if let Some(absent) = macs.iter().find(|mac| !here(mac)) {
            return Err(Refusal::Absent(absent.to_string()));
        }
        self.state.leasing = macs.clone();
        for link in self.state.links.iter_mut().filter(|link| !macs.contains(&link.mac)) {
            link.lease = None;
        }
        Ok(())
    }

    /// A DHCP server answers on each interface that is asked on.
    fn answer_leases(&mut self) {
        let leasing = &self.state.leasing;
        let links = self.state.links.iter_mut().zip(10..);
        for (link, number) in links.filter(|(link, _)| leasing.contains(&link.mac)) {
            link.addresses =
                Ipv4Net::new(Ipv4Addr::new(192, 0, 2, number), 24).into_iter().collect();
            link.gateway = Some(Ipv4Addr::new(192, 0, 2, 1));
            link.lease = Some(Lease { dns: vec![Ipv4Addr::new(192, 0, 2, 1)] });
            link.up = true;
        }
    }

    fn sessions<'a>(&self, target: &Iqn, allowed: impl Iterator<Item = &'a Iqn>) -> Sessions {
        let standing = self
            .state
            .targets
            .get(target)
            .map(|target| target.sessions.clone())
            .unwrap_or_default();
        let kept = allowed.filter_map(|initiator| standing.get_key_value(initiator));
        kept.map(|(initiator, from)| (initiator.clone(), *from)).collect()
    }

    fn dataset(&mut self, dataset: &Dataset) -> Result<&mut DatasetState, Refusal> {
        self.state.datasets.get_mut(dataset).ok_or_else(|| Refusal::Absent(dataset.to_string()))
    }

    fn exists(&mut self, snapshot: &Snapshot) -> Result<(), Refusal> {
        let there = self.dataset(&snapshot.dataset)?.snapshots.contains(&snapshot.tag);
        if there { Ok(()) } else { Err(Refusal::Absent(snapshot.to_string())) }
    }

    fn closed(&self, dataset: &Dataset) -> Result<(), Refusal> {
        let holds = |target: &Target| {
            target.export.as_ref().is_some_and(|e| e.backing.dataset() == dataset)
        };
        if self.state.targets.values().any(holds) {
            Err(Refusal::Busy(dataset.clone()))
        } else {
            Ok(())
        }
    }

    fn create(&mut self, dataset: &Dataset, state: DatasetState) -> Result<(), Refusal> {
        let parent = dataset.parent().ok_or_else(|| Refusal::Exists(dataset.to_string()))?;
        let pool_root = parent.parent().is_none()
            && self.state.pools.keys().any(|pool| pool.as_str() == parent.as_str());
        if !pool_root && !self.state.datasets.contains_key(&parent) {
            return Err(Refusal::Absent(parent.to_string()));
        }
        if self.state.datasets.contains_key(dataset) {
            return Err(Refusal::Exists(dataset.to_string()));
        }
        self.state.datasets.insert(dataset.clone(), state);
        Ok(())
    }

    fn clone_snapshot(
        &mut self,
        origin: &Snapshot,
        dataset: &Dataset,
        mark: &Mark,
    ) -> Result<(), Refusal> {
        self.exists(origin)?;
        let volume_size_bytes = self.dataset(&origin.dataset)?.volume_size_bytes;
        self.create(
            dataset,
            DatasetState { origin: Some(origin.clone()), volume_size_bytes, ..blank(mark) },
        )
    }

    fn destroy(&mut self, dataset: &Dataset, mark: &Mark) -> Result<(), Refusal> {
        if self.dataset(dataset)?.mark.as_ref() != Some(mark) {
            return Err(Refusal::NotOurs(dataset.clone(), mark.clone()));
        }
        self.closed(dataset)?;
        let cloned = |state: &DatasetState| {
            state.origin.as_ref().is_some_and(|origin| origin.dataset == *dataset)
        };
        if self.state.datasets.values().any(cloned) {
            return Err(Refusal::Busy(dataset.clone()));
        }
        self.state.datasets.remove(dataset);
        Ok(())
    }

    fn import_pool(&mut self, pool: &PoolName, guid: u64) -> Result<(), Refusal> {
        let known = |found: &model::observed::ImportablePool| found.guid == guid && found.ready;
        if !self.state.importable.iter().any(known) {
            return Err(Refusal::Absent(pool.to_string()));
        }
        self.state.importable.retain(|found| found.guid != guid);
        self.state.pools.insert(pool.clone(), online(guid));
        Ok(())
    }

    fn create_pool(
        &mut self,
        pool: &PoolName,
        disks: &[String],
        overwrite: &[String],
    ) -> Result<(), Refusal> {
        if self.state.pools.contains_key(pool) {
            return Err(Refusal::Exists(pool.to_string()));
        }
        for path in disks {
            let disk = self.state.disks.iter_mut().find(|disk| disk.path == *path);
            let disk = disk.ok_or_else(|| Refusal::Absent(path.clone()))?;
            if disk.contents != DiskContents::Blank && !overwrite.contains(path) {
                return Err(Refusal::ForeignDisk(path.clone()));
            }
        }
        for disk in self.state.disks.iter_mut().filter(|disk| disks.contains(&disk.path)) {
            disk.contents = DiskContents::Pool(pool.to_string());
        }
        self.state.pools.insert(pool.clone(), online(1));
        Ok(())
    }
}

fn online(guid: u64) -> Pool {
    Pool { guid, health: "ONLINE".to_owned(), size_bytes: 1 << 40, free_bytes: 1 << 40 }
}

fn running(source: Option<model::desired::Source>) -> Job {
    Job::Running { phase: "simulated".to_owned(), done_bytes: 0, total_bytes: None, source }
}

fn blank(mark: &Mark) -> DatasetState {
    DatasetState {
        volume_size_bytes: None,
        mark: Some(mark.clone()),
        origin: None,
        boot: None,
        mounted: false,
        snapdev_visible: false,
        used_bytes: 0,
        snapshots: BTreeSet::new(),
    }
}

impl Host for SimHost {
    async fn observe(&mut self) -> Result<Observed, Error> {
        if self.jobs_end {
            self.end_jobs();
        }
        Ok(self.state.clone())
    }

    async fn apply(&mut self, step: &Step) -> Result<(), Error> {
        self.change(step).map_err(|refusal| Error::new("the simulated machine refused", refusal))
    }
}
