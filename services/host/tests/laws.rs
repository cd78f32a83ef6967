//! The laws of planning, held on the simulated machine: it converges, it then does nothing, a crash at any step is harmless,
//! and what is not ours stays as it was.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, sync::Arc};

use host::sim::SimHost;
use model::{
    Document, Plan,
    boot::{Boot, Boots, Chap, Secret, superseded},
    desired::{
        BootMode, Desired, Device, Dhcp, Group, ImageFormat, Interface, Layout, Management,
        Network, Pool, PoolDisk, Source, Vdisk, VdiskPurpose, VdiskUse, Volume, tree,
    },
    name::{Dataset, DeviceName, Iqn, Mark},
    observed::{DatasetState, DiskContents, ImportablePool, Observed},
    step::Step,
    validate::validate,
};
use proptest::prelude::*;

const POOL: &str = "tank";

/// What planning says of a document that has no look-ups yet.
fn plan(desired: &Desired, boots: &Boots, observed: &Observed) -> Plan {
    model::plan(&desired.clone().into(), boots, observed)
}

/// What a generated server shall be, in few numbers, so that a failing case reads well.
#[derive(Debug, Clone)]
struct Shape {
    devices: Vec<(usize, BootMode, bool, bool)>,
    groups: usize,
    generations: usize,
    source: bool,
    range: bool,
    /// The server's name and its management interface.
    own: (bool, Option<Management>),
}

fn management() -> impl Strategy<Value = Option<Management>> {
    let card = prop_oneof![Just("52:54:00:00:00:02"), Just("52:54:00:00:00:03")];
    let fixed = (card.clone(), any::<bool>(), any::<bool>()).prop_map(|(mac, dns, ntp)| {
        Some(Management {
            interface: Interface::Mac(mac.parse().unwrap()),
            address: "198.51.100.5/24".parse().ok(),
            gateway: "198.51.100.1".parse().ok(),
            dns: dns.then(|| "198.51.100.2".parse().unwrap()).into_iter().collect(),
            ntp: ntp.then(|| "198.51.100.3".parse().unwrap()).into_iter().collect(),
        })
    });
    let leased = card.prop_map(|mac| {
        let interface = Interface::Mac(mac.parse().unwrap());
        Some(Management { interface, address: None, gateway: None, dns: vec![], ntp: vec![] })
    });
    prop_oneof![Just(None), fixed, leased]
}

fn shape() -> impl Strategy<Value = Shape> {
    let mode =
        prop_oneof![Just(BootMode::Overlay), Just(BootMode::Ephemeral), Just(BootMode::Persistent)];
    let devices = proptest::collection::vec((0..3usize, mode, any::<bool>(), any::<bool>()), 0..6);
    let own = (any::<bool>(), management());
    (devices, 0..3usize, 1..3usize, any::<bool>(), any::<bool>(), own).prop_map(
        |(devices, groups, generations, source, range, own)| Shape {
            devices,
            groups,
            generations,
            source,
            range,
            own,
        },
    )
}

fn document(shape: &Shape, generation: u64) -> Desired {
    let volumes = vec![Volume {
        name: "debian".parse().unwrap(),
        pool: POOL.parse().unwrap(),
        size_bytes: 1 << 30,
        source: shape.source.then(|| Source {
            location: "/dev/vdb".to_owned(),
            format: ImageFormat::Raw,
            sha256: "0".repeat(64).parse().unwrap(),
        }),
    }];
    let groups: Vec<Group> = (0..shape.groups)
        .map(|i| Group {
            name: format!("group-{i}").parse().unwrap(),
            volume: "debian".parse().unwrap(),
            generations: (1..=shape.generations as u32).collect(),
            production: 1,
            test: None,
            kernel_arguments: String::new(),
        })
        .collect();
    let dhcp = Dhcp::Authoritative {
        first: "10.77.0.200".parse().unwrap(),
        last: "10.77.0.250".parse().unwrap(),
    };
    let mut desired = Desired {
        generation,
        server: shape.own.0.then(|| "server-01".parse().unwrap()),
        management: shape.own.1.clone(),
        pools: vec![Pool {
            name: POOL.parse().unwrap(),
            layout: Layout::Stripe,
            disks: vec![PoolDisk { serial: "A".to_owned(), overwrite: false }],
        }],
        networks: vec![Network {
            name: "lab".parse().unwrap(),
            interface: Interface::Mac("52:54:00:00:00:01".parse().unwrap()),
            address: "10.77.0.1/24".parse().unwrap(),
            gateway: None,
            dns: vec![],
            domain: None,
            dhcp: if shape.range { dhcp } else { Dhcp::Proxy },
        }],
        volumes,
        groups,
        ..Desired::default()
    };
    for (i, (group, boot_mode, vdisk, _)) in shape.devices.iter().enumerate() {
        let Some(group) = desired.groups.get(*group) else { continue };
        let name: model::name::VdiskName = format!("vdisk-{i}").parse().unwrap();
        if *vdisk {
            desired.vdisks.push(Vdisk {
                name: name.clone(),
                pool: POOL.parse().unwrap(),
                size_bytes: 1 << 20,
            });
        }
        let purpose = VdiskPurpose::Mount { path: "/data".to_owned() };
        desired.devices.push(Device {
            name: format!("pc-{i}").parse().unwrap(),
            macs: vec![format!("52:54:00:00:01:{i:02x}").parse().unwrap()],
            network: "lab".parse().unwrap(),
            address: format!("10.77.0.{}", 10 + i).parse().unwrap(),
            group: group.name.clone(),
            boot_mode: *boot_mode,
            test: false,
            pinned: None,
            vdisks: if *vdisk { vec![VdiskUse { vdisk: name, purpose }] } else { vec![] },
            menu: None,
            on_failure: model::desired::OnFailure::Retry,
        });
    }
    assert_eq!(validate(&desired), [], "the generated document is sound");
    desired
}

fn boots(shape: &Shape, desired: &Desired, round: u8) -> Boots {
    let document = Document::new(desired.clone());
    let started = |device: &Device| {
        let index: usize = device.name.as_str()[3..].parse().unwrap();
        shape.devices[index].3
    };
    let boot = |device: &Device| Boot {
        id: format!("{round:032x}").parse().unwrap(),
        generation: document.generation_of(device).unwrap(),
        boot_mode: device.boot_mode,
        from: device.address,
        chap: Arc::new(Chap {
            user: "u".to_owned(),
            password: Secret::new(format!("secret-{round}")),
            target_user: "t".to_owned(),
            target_password: Secret::new("other"),
        }),
    };
    desired
        .devices
        .iter()
        .filter(|d| started(d))
        .map(|device| (device.name.clone(), boot(device)))
        .collect()
}

fn server() -> SimHost {
    let mut server = SimHost::demo();
    server.state.disks[0].serial = Some("A".to_owned());
    for number in 2..4 {
        let mut card = server.state.links[0].clone();
        (card.name, card.mac) =
            (format!("eth{number}"), format!("52:54:00:00:00:0{number}").parse().unwrap());
        server.state.links.push(card);
    }
    server
}

/// Plans and applies until the plan is empty; every step has to succeed, for nobody disturbs the machine.
fn converge(server: &mut SimHost, desired: &Desired, boots: &Boots) -> Result<(), TestCaseError> {
    for _ in 0..12 {
        let plan = plan(desired, boots, &server.state);
        if plan.steps.is_empty() && !jobs_run(&server.state) {
            return Ok(());
        }
        for step in &plan.steps {
            server
                .change(step)
                .map_err(|refusal| TestCaseError::fail(format!("{refusal}: {step:?}")))?;
        }
        server.end_jobs();
    }
    let rest = plan(desired, boots, &server.state);
    Err(TestCaseError::fail(format!("does not converge; still planned: {:?}", rest.steps)))
}

fn jobs_run(state: &Observed) -> bool {
    let runs = |job: &model::observed::Job| matches!(job, model::observed::Job::Running { .. });
    state.imports.values().any(runs) || state.extractions.values().any(runs)
}

/// What stands at the end, apart from the marks of single boots.
fn essence(state: &Observed) -> (BTreeSet<Dataset>, BTreeSet<model::name::Iqn>) {
    (state.datasets.keys().cloned().collect(), state.targets.keys().cloned().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn a_blank_server_converges_and_then_nothing_is_planned(shape in shape()) {
        let (desired, mut server) = (document(&shape, 1), server());
        let boots = boots(&shape, &desired, 1);
        converge(&mut server, &desired, &boots)?;
        prop_assert_eq!(plan(&desired, &boots, &server.state).steps, vec![]);
    }

    #[test]
    fn a_power_cut_after_any_step_is_harmless(shape in shape(), cuts in proptest::collection::vec(0..40usize, 1..4)) {
        let desired = document(&shape, 1);
        let boots = boots(&shape, &desired, 1);
        let mut undisturbed = server();
        converge(&mut undisturbed, &desired, &boots)?;

        let mut server = server();
        for cut in cuts {
            let mut left = cut;
            'life: for _ in 0..6 {
                for step in plan(&desired, &boots, &server.state).steps {
                    if left == 0 { break 'life }
                    left -= 1;
                    server.change(&step).map_err(|refusal| TestCaseError::fail(format!("{refusal}: {step:?}")))?;
                }
                server.end_jobs();
            }
            server.restart();
        }
        converge(&mut server, &desired, &boots)?;
        prop_assert_eq!(essence(&server.state), essence(&undisturbed.state));
    }

    #[test]
    fn any_document_follows_any_other(before in shape(), after in shape()) {
        let mut server = server();
        let first = document(&before, 1);
        converge(&mut server, &first, &boots(&before, &first, 1))?;
        let second = document(&after, 2);
        let boots = boots(&after, &second, 2);
        converge(&mut server, &second, &boots)?;
        prop_assert_eq!(plan(&second, &boots, &server.state).steps, vec![]);
    }

    #[test]
    fn unmarked_datasets_and_foreign_pools_stay_as_they_were(shape in shape(), at in 0..9usize) {
        let desired = document(&shape, 1);
        let boots = boots(&shape, &desired, 1);
        let pool = POOL.parse().unwrap();
        let mut server = server();
        converge(&mut server, &Desired { groups: vec![], volumes: vec![], devices: vec![], vdisks: vec![], ..desired.clone() }, &Boots::new())?;
        let places = [
            tree::root(&pool).child("own"),
            tree::volume(&pool, &"debian".parse().unwrap()),
            tree::group(&pool, &"group-0".parse().unwrap()),
            tree::group(&pool, &"group-1".parse().unwrap()),
            tree::device(&pool, &"pc-0".parse().unwrap()),
            tree::device(&pool, &"pc-1".parse().unwrap()),
            tree::device(&pool, &"pc-2".parse().unwrap()),
            tree::vdisk(&pool, &"vdisk-0".parse().unwrap()),
            tree::vdisk(&pool, &"vdisk-1".parse().unwrap()),
        ];
        let foreign = DatasetState {
            volume_size_bytes: Some(7), mark: None, origin: None, boot: None, mounted: false, snapdev_visible: false,
            used_bytes: 0, snapshots: ["g1".to_owned(), "p1".to_owned()].into(),
        };
        server.state.datasets.insert(places[at].clone(), foreign.clone());
        server.state.importable.push(ImportablePool { name: "theirs".to_owned(), guid: 9, ready: true });
        converge(&mut server, &desired, &boots)?;
        prop_assert_eq!(server.state.datasets.get(&places[at]), Some(&foreign));
        prop_assert_eq!(server.state.importable.len(), 1);
    }

    #[test]
    fn an_overlay_device_that_boots_again_costs_its_own_entry_and_nobody_elses(shape in shape()) {
        let desired = document(&shape, 1);
        let (before, after) = (boots(&shape, &desired, 1), boots(&shape, &desired, 2));
        let mut server = server();
        converge(&mut server, &desired, &before)?;
        for (device, boot) in after.iter().filter(|(_, boot)| boot.boot_mode == BootMode::Overlay) {
            let mut again = before.clone();
            again.insert(device.clone(), boot.clone());
            let steps = plan(&desired, &again, &server.state).steps;
            let own = Iqn::initiator(device);
            let only_own = |step: &Step| matches!(step, Step::SetAcls { set, remove, .. }
                if set.keys().eq([&own]) && remove.is_empty());
            prop_assert!(!steps.is_empty() && steps.iter().all(only_own), "{:?}", steps);
        }
    }

    #[test]
    fn a_device_keeps_its_clone_while_its_boot_lasts_and_has_the_next_one_ready_after(
        shape in shape(), cuts in proptest::collection::vec(0..12usize, 0..3),
    ) {
        let shape = Shape { generations: 2, ..shape };
        let desired = document(&shape, 1);
        let running = boots(&shape, &desired, 1);
        let mut server = server();
        converge(&mut server, &desired, &running)?;
        for group in &desired.groups {
            let group = tree::group(&POOL.parse().unwrap(), &group.name);
            server.state.datasets.get_mut(&group).unwrap().snapshots.insert("g2".to_owned());
        }
        let mut next = Desired { generation: 2, ..desired };
        next.groups.iter_mut().for_each(|group| group.production = 2);
        let stays = plan(&next, &running, &server.state).steps;
        let concerned = |step: &Step, device: &DeviceName| match step {
            Step::Destroy { dataset, .. } => *dataset == tree::device(&POOL.parse().unwrap(), device),
            Step::Unexport(target) => *target == Iqn::device(device),
            _ => false,
        };
        prop_assert!(!stays.iter().any(|step| running.keys().any(|device| concerned(step, device))), "{:?}", stays);

        let indexed = Document::new(next.clone());
        let over: BTreeSet<DeviceName> =
            superseded(&indexed, &running).map(|(device, _)| device.name.clone()).collect();
        let mut rest = running;
        rest.retain(|device, _| !over.contains(device));
        for cut in cuts {
            for step in plan(&next, &rest, &server.state).steps.iter().take(cut) {
                server.change(step).map_err(|refusal| TestCaseError::fail(format!("{refusal}: {step:?}")))?;
            }
            server.restart();
        }
        converge(&mut server, &next, &rest)?;
        for device in next.devices.iter().filter(|device| device.boot_mode == BootMode::Ephemeral) {
            let clone = &server.state.datasets[&tree::device(&POOL.parse().unwrap(), &device.name)];
            prop_assert_eq!(&clone.origin.as_ref().unwrap().tag, "g2");
            prop_assert!(clone.snapshots.contains("clean"));
            prop_assert!(!server.state.targets.contains_key(&Iqn::device(&device.name)));
        }
    }

    #[test]
    fn a_new_boot_makes_the_clone_new_with_its_lun_closed(shape in shape()) {
        let desired = document(&shape, 1);
        let mut server = server();
        converge(&mut server, &desired, &boots(&shape, &desired, 1))?;
        let again = boots(&shape, &desired, 2);
        let steps = plan(&desired, &again, &server.state).steps;
        let ephemeral: BTreeSet<Dataset> = desired.devices.iter()
            .filter(|device| device.boot_mode == BootMode::Ephemeral && again.contains_key(&device.name))
            .map(|device| tree::device(&POOL.parse().unwrap(), &device.name)).collect();
        let made_new: BTreeSet<Dataset> = steps.iter()
            .flat_map(|step| if let Step::MakeNew(clones) = step { clones.keys().cloned().collect() } else { vec![] }).collect();
        prop_assert_eq!(made_new, ephemeral);
        converge(&mut server, &desired, &again)?;
    }
}

#[test]
fn a_card_that_may_be_a_network_s_is_not_asked_on_before_udev_has_told_its_place() {
    let mut desired = Desired::default();
    let mut server = server();
    let place = "pci-0000:00:04.0";
    desired.networks.push(Network {
        name: "lab".parse().unwrap(),
        interface: Interface::Path(place.to_owned()),
        address: "10.77.0.1/24".parse().unwrap(),
        gateway: None,
        dns: vec![],
        domain: None,
        dhcp: Dhcp::Proxy,
    });
    for link in &mut server.state.links {
        link.path = None;
    }
    server.state.links[1].path = Some("pci-0000:00:05.0".to_owned());
    let asked = |state: &Observed| -> Vec<Step> {
        let steps = plan(&desired, &Boots::new(), state).steps;
        steps.into_iter().filter(|step| matches!(step, Step::Lease(_))).collect()
    };
    let on = |links: &[usize]| {
        let macs = links.iter().map(|link| server.state.links[*link].mac);
        vec![Step::Lease(macs.collect())]
    };
    assert_eq!(asked(&server.state), on(&[1]));
    let mut told = server.state.clone();
    told.links[0].path = Some(place.to_owned());
    assert_eq!(asked(&told), on(&[1, 2]));
}

#[test]
fn a_clock_that_was_left_stopped_is_started_again() {
    let mut server = server();
    let blank = Desired::default();
    converge(&mut server, &blank, &Boots::new()).unwrap();
    server.state.clock_stopped = true;
    let steps = plan(&blank, &Boots::new(), &server.state).steps;
    assert_eq!(steps, [Step::SetTimeServers(vec![])]);
    converge(&mut server, &blank, &Boots::new()).unwrap();
    assert!(!server.state.clock_stopped);
}

#[test]
fn a_server_asks_for_addresses_only_where_it_serves_no_devices() {
    let blank = Desired::default();
    let mut server = server();
    converge(&mut server, &blank, &Boots::new()).unwrap();
    let macs = |state: &Observed| -> Vec<String> {
        state.leasing.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        macs(&server.state),
        ["52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"]
    );
    assert_eq!(server.state.resolvers, ["192.0.2.1".parse::<std::net::Ipv4Addr>().unwrap()]);

    let none = Shape {
        devices: vec![],
        groups: 0,
        generations: 1,
        source: false,
        range: true,
        own: (true, None),
    };
    let serving = document(&none, 1);
    converge(&mut server, &serving, &Boots::new()).unwrap();
    assert_eq!(macs(&server.state), ["52:54:00:00:00:02", "52:54:00:00:00:03"]);
    let own: Vec<String> =
        server.state.links[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.77.0.1/24"], "what was leased on the netboot interface is gone");
    assert_eq!(server.state.server, "server-01".parse().ok());

    let named = Desired {
        management: Some(Management {
            interface: Interface::Mac("52:54:00:00:00:02".parse().unwrap()),
            address: None,
            gateway: None,
            dns: vec!["192.0.2.53".parse().unwrap()],
            ntp: vec![],
        }),
        ..serving
    };
    converge(&mut server, &named, &Boots::new()).unwrap();
    assert_eq!(macs(&server.state), ["52:54:00:00:00:02"]);
    assert_eq!(server.state.resolvers, ["192.0.2.53".parse::<std::net::Ipv4Addr>().unwrap()]);
}

#[test]
fn a_disk_with_foreign_data_is_taken_only_when_the_document_says_so() {
    let shape = Shape {
        devices: vec![],
        groups: 0,
        generations: 1,
        source: false,
        range: false,
        own: (false, None),
    };
    let mut desired = document(&shape, 1);
    for contents in
        [DiskContents::Pool("theirs".to_owned()), DiskContents::Foreign("ext4".to_owned())]
    {
        let mut server = server();
        server.state.disks[0].contents = contents;
        desired.pools[0].disks[0].overwrite = false;
        let plan = plan(&desired, &Boots::new(), &server.state);
        assert!(
            !plan
                .steps
                .iter()
                .any(|step| matches!(step, Step::CreatePool { .. } | Step::ImportPool { .. }))
        );
        assert!(
            plan.waiting.iter().any(|waiting| waiting.reason.contains("not ours")),
            "{:?}",
            plan.waiting
        );
        desired.pools[0].disks[0].overwrite = true;
        converge(&mut server, &desired, &Boots::new()).unwrap();
        assert_eq!(server.state.disks[0].contents, DiskContents::Pool(POOL.to_owned()));
    }
}

#[test]
fn a_pool_whose_making_was_cut_off_is_made_again_and_another_one_s_disk_is_not_taken() {
    let shape = Shape {
        devices: vec![],
        groups: 0,
        generations: 0,
        source: false,
        range: true,
        own: (false, None),
    };
    let desired = document(&shape, 1);
    let mut server = server();
    server.state.disks[0].contents = DiskContents::Begun("other".parse().unwrap());
    let begun_elsewhere = plan(&desired, &Boots::new(), &server.state);
    assert!(!begun_elsewhere.steps.iter().any(|step| matches!(step, Step::CreatePool { .. })));
    server.state.disks[0].contents = DiskContents::Begun(POOL.parse().unwrap());
    converge(&mut server, &desired, &Boots::new()).unwrap();
    assert_eq!(server.state.disks[0].contents, DiskContents::Pool(POOL.to_owned()));
}

#[test]
fn a_flashed_anew_server_imports_its_pool_and_makes_nothing_twice() {
    let shape = Shape {
        devices: vec![(0, BootMode::Ephemeral, true, true), (0, BootMode::Persistent, false, true)],
        groups: 1,
        generations: 1,
        source: true,
        range: true,
        own: (false, None),
    };
    let desired = document(&shape, 1);
    let mut server = server();
    converge(&mut server, &desired, &boots(&shape, &desired, 1)).unwrap();
    server.restart();
    let datasets = std::mem::take(&mut server.state.datasets);
    let pool = server.state.pools.remove(&POOL.parse().unwrap()).unwrap();
    server.state.boot_files.clear();
    server.state.importable.push(ImportablePool {
        name: POOL.to_owned(),
        guid: pool.guid,
        ready: true,
    });

    let import = plan(&desired, &Boots::new(), &server.state).steps;
    assert!(
        import
            .iter()
            .any(|step| matches!(step, Step::ImportPool { guid, .. } if *guid == pool.guid))
    );
    assert!(!import.iter().any(|step| matches!(step, Step::CreatePool { .. })));
    for step in &import {
        server.change(step).unwrap();
    }
    server.state.datasets = datasets;
    let after = plan(&desired, &Boots::new(), &server.state).steps;
    assert!(
        after.iter().all(|step| matches!(
            step,
            Step::Mount(_) | Step::StartExtraction { .. } | Step::ConfigureDhcp(_)
        )),
        "{after:?}",
    );
}

#[test]
fn what_is_not_in_the_document_any_more_is_kept_until_it_is_listed() {
    let shape = Shape {
        devices: vec![(0, BootMode::Persistent, true, true)],
        groups: 1,
        generations: 1,
        source: false,
        range: true,
        own: (false, None),
    };
    let desired = document(&shape, 1);
    let mut server = server();
    converge(&mut server, &desired, &boots(&shape, &desired, 1)).unwrap();
    let all = server.state.datasets.len();
    let mut empty =
        Desired { volumes: vec![], groups: vec![], vdisks: vec![], devices: vec![], ..desired };
    converge(&mut server, &empty, &Boots::new()).unwrap();
    assert_eq!(server.state.datasets.len(), all);
    let marks = ["device:pc-0", "vdisk:vdisk-0", "group:group-0", "volume:debian"];
    empty.destroy = marks.iter().map(|mark| mark.parse::<Mark>().unwrap()).collect();
    converge(&mut server, &empty, &Boots::new()).unwrap();
    assert_eq!(server.state.datasets.len(), all - marks.len());
}
