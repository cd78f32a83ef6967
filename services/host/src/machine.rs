//! The real machine behind the seam: puts the modules of this crate together, and keeps the jobs that outlast a step.

mod jobs;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use model::{
    desired::tree,
    name::{Dataset, Mark, PoolName},
    observed::{BootFiles, DatasetState, Disk, DiskContents, GenerationId, Observed, Pool},
    step::{DhcpConfig, Step},
};

use self::jobs::Jobs;
use crate::{
    bootfiles,
    cmd::Program,
    disks,
    dnsmasq::{self, Dnsmasq},
    image,
    ipxe::{self, Ipxe},
    lio::Lio,
    netlink::Netlink,
    networkd::Networkd,
    own,
    seam::{Error, Host},
    zfs,
};

/// Tells the owner that something happened.
pub type Wake = Arc<dyn Fn(&'static str) + Send + Sync>;

/// The machine that the agent runs on.
pub struct Machine {
    lio: Arc<Lio>,
    netlink: Netlink,
    networkd: Networkd,
    own: own::Paths,
    dnsmasq: Dnsmasq,
    ipxe: Arc<Ipxe>,
    /// The folder with the certificate that iPXE shall trust.
    certificates: PathBuf,
    /// Whom the copies of iPXE trust since they were last filled.
    filled: Option<ipxe::Root>,
    begun: zfs::Begun,
    making: zfs::Making,
    jobs: Jobs,
}

/// The files of ours that the modules are given.
#[derive(Debug, Clone)]
pub struct Places {
    /// Gets the server's name.
    pub hostname: PathBuf,
    /// Gets the pools that are being made.
    pub begun: PathBuf,
    /// Gets the dataset that is being made.
    pub making: PathBuf,
    /// The folder for iPXE's binaries.
    pub tftp: PathBuf,
    /// The folder with the root that iPXE shall trust.
    pub certificates: PathBuf,
}

impl Machine {
    /// What it starts.
    pub const PROGRAMS: &[Program] = &[
        Program::Blkdiscard,
        Program::Blkid,
        Program::Curl,
        Program::Dnsmasq,
        Program::GrubFstest,
        Program::Lsblk,
        Program::Modprobe,
        Program::Networkctl,
        Program::Prlimit,
        Program::QemuImg,
        Program::Setpriv,
        Program::Ssh,
        Program::Systemctl,
        Program::Udevadm,
        Program::Unshare,
        Program::Wipefs,
        Program::Zfs,
        Program::Zpool,
    ];

    /// The machine. A job that ends calls `wake`.
    pub fn new(places: Places, wake: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        let Places { hostname, begun, making, tftp, certificates } = places;
        Self {
            lio: Arc::new(Lio::new("/sys/kernel/config")),
            netlink: Netlink::new("/run/udev/data"),
            networkd: Networkd::new("/run/clusterducks/dhcp.network"),
            own: own::Paths {
                hostname,
                resolv_conf: "/run/clusterducks/resolv.conf".into(),
                timesyncd: "/run/clusterducks/timesyncd.conf".into(),
            },
            dnsmasq: Dnsmasq::new(
                "/run/clusterducks/dnsmasq.conf",
                dnsmasq::Paths { tftp: tftp.clone(), ..dnsmasq::Paths::default() },
            ),
            ipxe: Arc::new(Ipxe::new(ipxe::DISTRIBUTION, tftp)),
            certificates,
            filled: None,
            begun: zfs::Begun::new(begun),
            making: zfs::Making::new(making),
            jobs: Jobs::new(Arc::new(wake)),
        }
    }

    async fn lio<T: Send + 'static>(
        &self,
        tried: &'static str,
        work: impl FnOnce(&Lio) -> Result<T, crate::lio::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let lio = Arc::clone(&self.lio);
        let done = tokio::task::spawn_blocking(move || work(&lio)).await;
        done.map_err(|died| Error::new(tried, died))?.map_err(|error| Error::new(tried, error))
    }

    /// The part of the state that the server has for itself.
    async fn observe_own(&self) -> Result<Observed, Error> {
        let read = |error| Error::new("the server's own settings can't be read", error);
        let (links, leases) = tokio::join!(self.netlink.observe(), self.networkd.observe());
        let mut links = links.map_err(|error| Error::new("interfaces can't be listed", error))?;
        let mut leases = leases.map_err(|error| Error::new("leases can't be listed", error))?;
        for link in &mut links {
            link.lease = leases.given.remove(&link.name);
        }
        Ok(Observed {
            server: own::observe_name(&self.own).await.map_err(read)?,
            links,
            leasing: leases.asked,
            resolvers: own::observe_resolvers(&self.own).await.map_err(read)?,
            time_servers: own::observe_time_servers(&self.own).await.map_err(read)?,
            clock_stopped: own::observe_clock_stopped().await.map_err(read)?,
            ..Observed::default()
        })
    }

    async fn observe_disks(&self) -> Result<Vec<Disk>, Error> {
        let begun = self.begun.disks().await;
        let begun = begun.map_err(|error| Error::new("the note of pools can't be read", error))?;
        let disks = disks::observe(&begun).await;
        disks.map_err(|error| Error::new("disks can't be listed", error))
    }

    /// What a power cut left of a dataset's making counts as absent: it is made anew.
    async fn observe_datasets(&self) -> Result<BTreeMap<Dataset, DatasetState>, Error> {
        let note = |error| Error::new("the note of the dataset that is made can't be used", error);
        let noted = self.making.dataset().await.map_err(note)?;
        let listed = zfs::observe_datasets().await;
        let mut datasets = listed.map_err(|error| Error::new("datasets can't be listed", error))?;
        match noted.as_ref().and_then(|noted| datasets.get(noted)) {
            Some(state) if state.mark.is_some() => self.making.end().await.map_err(note)?,
            Some(_) => datasets.retain(|dataset, _| Some(dataset) != noted.as_ref()),
            None => {}
        }
        Ok(datasets)
    }

    async fn start_dhcp(&mut self, config: &DhcpConfig) -> Result<(), Error> {
        let (ipxe, folder) = (Arc::clone(&self.ipxe), self.certificates.clone());
        let filled = tokio::task::spawn_blocking(move || {
            let root = ipxe::read_root(&folder)?;
            ipxe.fill(&root).map(|_change| root)
        });
        let tried = "iPXE's binaries could not be put in place";
        let root = filled
            .await
            .map_err(|died| Error::new(tried, died))?
            .map_err(|error| Error::new(tried, error))?;
        self.filled = Some(root);
        let configured = self.dnsmasq.configure(config).await;
        configured.map(drop).map_err(|error| Error::new("dnsmasq could not be configured", error))
    }

    /// dnsmasq gives out copies of iPXE too: while they trust another root than they should, its configuration counts as another
    /// one than is wanted, an empty one.
    fn with_root(&self, config: DhcpConfig) -> DhcpConfig {
        match ipxe::read_root(&self.certificates) {
            Ok(root) if self.filled.as_ref() == Some(&root) => config,
            // A root that can't be read fails the step that brings it.
            Ok(_) | Err(_) => DhcpConfig::default(),
        }
    }

    fn start_import(
        &mut self,
        volume: &model::name::VolumeName,
        dataset: &Dataset,
        source: &model::desired::Source,
    ) {
        let import = image::Import {
            source: source.clone(),
            folder: zfs::mount_point(dataset.pool()).join("imports"),
            device: dataset.device_path().into(),
            device_bytes: 0,
        };
        self.jobs.start_import(volume, dataset.clone(), import);
    }
}

impl Host for Machine {
    async fn observe(&mut self) -> Result<Observed, Error> {
        let (own, disks, pools, datasets, targets, dhcp) = tokio::join!(
            self.observe_own(),
            self.observe_disks(),
            async {
                zfs::observe_pools()
                    .await
                    .map_err(|error| Error::new("pools can't be listed", error))
            },
            self.observe_datasets(),
            self.lio("iSCSI targets can't be listed", |lio| lio.observe()),
            async {
                self.dnsmasq
                    .observe()
                    .await
                    .map_err(|error| Error::new("dnsmasq can't be looked at", error))
            },
        );
        let (disks, pools, datasets) = (disks?, pools?, datasets?);
        let waits = |contents: &DiskContents| match contents {
            DiskContents::Pool(name) => !pools.keys().any(|pool| pool.as_str() == name),
            DiskContents::Blank | DiskContents::Begun(_) | DiskContents::Foreign(_) => false,
        };
        // zpool reads every disk to answer this: it is asked only when some disk holds a pool that is not here yet.
        let importable = if disks.iter().any(|disk| waits(&disk.contents)) {
            zfs::observe_importable()
                .await
                .map_err(|error| Error::new("pools on disks can't be listed", error))?
        } else {
            Vec::new()
        };
        Ok(Observed {
            importable,
            boot_files: boot_files(&pools, &datasets)?,
            imports: self.jobs.imports(),
            extractions: self.jobs.extractions(),
            targets: targets?,
            dhcp: dhcp?.map(|config| self.with_root(config)),
            disks,
            pools,
            datasets,
            ..own?
        })
    }

    async fn apply(&mut self, step: &Step) -> Result<(), Error> {
        let zfs = |tried| move |error| Error::new(tried, error);
        match step {
            Step::SetServerName(name) => own::set_name(&self.own, name)
                .await
                .map_err(|error| Error::new("the server could not be named", error)),
            Step::Lease(macs) => {
                let asked = self.networkd.ask(macs).await;
                asked.map(drop).map_err(|error| Error::new("DHCP could not be asked", error))
            }
            Step::SetResolvers(servers) => own::set_resolvers(&self.own, servers)
                .await
                .map_err(|error| Error::new("the name servers could not be set", error)),
            Step::SetTimeServers(servers) => own::set_time_servers(&self.own, servers)
                .await
                .map_err(|error| Error::new("the time servers could not be set", error)),
            Step::SetLink { mac, add, remove, gateway } => {
                let set = self.netlink.set_link(*mac, add, remove, *gateway).await;
                set.map_err(|error| Error::new("the interface could not be set", error))
            }
            Step::ImportPool { pool, guid } => zfs::apply::import_pool(pool, *guid, &self.begun)
                .await
                .map_err(zfs("the pool could not be imported")),
            Step::CreatePool { pool, layout, disks, overwrite } => {
                zfs::apply::create_pool(pool, *layout, disks, overwrite, &self.begun)
                    .await
                    .map_err(zfs("the pool could not be made"))
            }
            Step::CreateFolder { dataset, mark, mounted } => {
                zfs::apply::create_folder(dataset, mark, *mounted, &self.making)
                    .await
                    .map_err(zfs("the folder could not be made"))
            }
            Step::Mount(dataset) => {
                zfs::apply::mount(dataset).await.map_err(zfs("the folder could not be mounted"))
            }
            Step::CreateZvol { dataset, mark, size_bytes } => {
                zfs::apply::create_zvol(dataset, mark, *size_bytes, &self.making)
                    .await
                    .map_err(zfs("the volume could not be made"))
            }
            Step::Grow { dataset, size_bytes } => zfs::apply::grow(dataset, *size_bytes)
                .await
                .map_err(zfs("the volume could not grow")),
            Step::TakeSnapshot(snapshot) => zfs::apply::take_snapshot(snapshot)
                .await
                .map_err(zfs("the snapshot could not be taken")),
            Step::Clone { origin, dataset, mark } => {
                zfs::apply::clone(origin, dataset, mark, &self.making)
                    .await
                    .map_err(zfs("the clone could not be made"))
            }
            Step::ShowSnapshots(dataset) => zfs::apply::show_snapshots(dataset)
                .await
                .map_err(zfs("the snapshots could not be shown")),
            Step::MakeNew(clones) => {
                zfs::apply::make_new(clones).await.map_err(zfs("the clones could not be made new"))
            }
            Step::Destroy { dataset, mark } => {
                if let Mark::Volume(volume) = mark {
                    self.jobs.stop_import(volume);
                }
                zfs::apply::destroy(dataset, mark)
                    .await
                    .map_err(zfs("the dataset could not be destroyed"))
            }
            Step::StartImport { volume, dataset, source, .. } => {
                self.start_import(volume, dataset, source);
                Ok(())
            }
            Step::StartExtraction { generation, snapshot, files } => {
                self.jobs.start_extraction(generation, snapshot.clone(), boot_folder(files.pool()));
                Ok(())
            }
            Step::Unexport(target) => {
                let target = target.clone();
                self.lio("the target could not be taken down", move |lio| lio.unexport(&target))
                    .await
            }
            Step::Export { export, portals } => {
                let wait = zfs::apply::wait_for_device(&export.backing.device_path()).await;
                wait.map_err(zfs("the device to export is not there"))?;
                let (export, portals) = (export.clone(), portals.clone());
                self.lio("the target could not be put up", move |lio| lio.export(&export, &portals))
                    .await
            }
            Step::SetAcls { target, set, remove } => {
                let (target, set, remove) = (target.clone(), set.clone(), remove.clone());
                self.lio("initiators could not be let into the target", move |lio| {
                    lio.set_acls(&target, &set, &remove)
                })
                .await
            }
            Step::ConfigureDhcp(config) => self.start_dhcp(config).await,
            Step::StopDhcp => {
                let stopped = self.dnsmasq.stop().await;
                stopped.map(drop).map_err(|error| Error::new("dnsmasq could not be stopped", error))
            }
        }
    }
}

fn boot_folder(pool: &str) -> PathBuf {
    zfs::mount_point(pool).join("boot")
}

/// The boot files of every pool whose file system of ours is mounted.
fn boot_files(
    pools: &BTreeMap<PoolName, Pool>,
    datasets: &BTreeMap<Dataset, DatasetState>,
) -> Result<BTreeMap<GenerationId, BootFiles>, Error> {
    let mut all = BTreeMap::new();
    for pool in pools.keys() {
        if datasets
            .get(&tree::files(pool))
            .is_some_and(|state| state.mounted && state.mark.is_some())
        {
            let found = bootfiles::observe(&boot_folder(pool.as_str()));
            all.extend(found.map_err(|error| Error::new("boot files can't be listed", error))?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn dnsmasq_counts_as_configured_only_while_ipxe_trusts_the_right_root() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("tls");
        std::fs::create_dir(&certificates).unwrap();
        let places = Places {
            hostname: folder.path().join("hostname"),
            begun: folder.path().join("begun.json"),
            making: folder.path().join("dataset-begun"),
            tftp: folder.path().join("tftp"),
            certificates: certificates.clone(),
        };
        let mut machine = Machine::new(places, |_| ());
        let config = DhcpConfig {
            networks: vec![model::step::DhcpNetwork {
                name: "lab".parse().unwrap(),
                interface: "eth0".to_owned(),
                server: "10.77.0.1/24".parse().unwrap(),
                gateway: None,
                dns: vec![],
                domain: None,
                range: None,
                hosts: vec![],
            }],
        };
        let empty = DhcpConfig::default();
        assert_eq!(machine.with_root(config.clone()), empty, "never filled in this life");
        machine.filled = Some(ipxe::Root::Default);
        assert_eq!(machine.with_root(config.clone()), config);
        let path = certificates.join(ipxe::CA_SHA256);
        let put = |text: &str| files::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
        put(&"0a".repeat(32));
        assert_eq!(machine.with_root(config.clone()), empty, "the root is another one now");
        machine.filled = Some(ipxe::read_root(&certificates).unwrap());
        assert_eq!(machine.with_root(config.clone()), config);
        put("nonsense");
        assert_eq!(machine.with_root(config), empty, "the root can't be read");
    }
}
