//! QEMU's command line for the machines that tests ask for.

use super::args::{Drive, Paths, render_args};
use super::builder::Builder;
use super::spec::{DiskSpec, HostService, NicModel, NicSpec, Spec};
use crate::accel::Accel;
use crate::switch::Switch;
use crate::workspace::Workspace;
use std::path::PathBuf;
use std::sync::Arc;

fn described(change: impl FnOnce(Builder) -> Builder) -> Spec {
    let workspace = Workspace::new("args").unwrap();
    workspace.passed();
    change(Builder::new(Arc::new(workspace), "pc-01")).spec
}

fn rendered(spec: &Spec, incoming: bool) -> String {
    let paths = Paths {
        serial_log: "/w/serial.log".into(),
        qmp: "/s/qmp".into(),
        debug: "/s/debug".into(),
        memory: "/w/memory".into(),
        variables: "/w/variables.fd".into(),
        disks: vec![Drive { file: "/w/a,b.qcow2".into(), format: "qcow2", read_only: false }],
        nics: vec![PathBuf::from("/s/0.sock")],
    };
    render_args(spec, &paths, Accel::Tcg, incoming).join(" ")
}

#[test]
fn a_card_that_boots_comes_before_the_disks() {
    let nic = NicSpec { mac: "52:54:00:cd:01:0a".into(), model: NicModel::E1000, boot: true };
    let disk = DiskSpec::Blank { size_bytes: 1, serial: "data".into() };
    let spec = described(|builder| builder.disk(disk).nic(&Switch::new(), nic).unwrap());
    let line = rendered(&spec, false);
    assert!(
        line.contains("-device e1000,id=nic0,netdev=net0,mac=52:54:00:cd:01:0a,bootindex=0"),
        "{line}"
    );
    assert!(line.contains("drive=disk0,serial=data,bootindex=100"), "{line}");
    assert!(!line.contains("-incoming"), "{line}");
}

#[test]
fn a_card_that_does_not_boot_has_no_rom() {
    let nic = NicSpec { mac: "52:54:00:cd:01:0a".into(), model: NicModel::Virtio, boot: false };
    let line = rendered(&described(|builder| builder.nic(&Switch::new(), nic).unwrap()), false);
    assert!(line.contains("mac=52:54:00:cd:01:0a,romfile= "), "{line}");
}

#[test]
fn commas_in_paths_do_not_become_options() {
    let disk = DiskSpec::Blank { size_bytes: 1, serial: "data".into() };
    let line = rendered(&described(|builder| builder.disk(disk)), false);
    assert!(line.contains("file=/w/a,,b.qcow2 "), "{line}");
}

#[test]
fn without_a_service_the_guest_has_no_card_towards_the_host() {
    let line = rendered(&described(|builder| builder), false);
    assert!(!line.contains("user,"), "{line}");
}

#[test]
fn the_card_towards_the_host_passes_only_what_is_listed() {
    let service = HostService { address: "10.0.2.100:80".into(), socket: "/s/http.sock".into() };
    let spec = described(|builder| builder.host_service(service).forward(8080, 80));
    let line = rendered(&spec, false);
    assert!(
        line.contains(
            "user,id=host,restrict=on,ipv6=off,guestfwd=tcp:10.0.2.100:80-cmd:socat STDIO \
             UNIX-CONNECT:/s/http.sock,hostfwd=tcp:127.0.0.1:8080-:80"
        ),
        "{line}"
    );
}

#[test]
fn a_saveable_machine_and_its_restored_ones_differ_only_in_how_they_map_memory() {
    let saveable = described(Builder::saveable);
    let memory = super::spec::Memory::Saved("/state/memory".into());
    let restored = Spec { memory, ..saveable.clone() };
    let (before, after) = (rendered(&saveable, false), rendered(&restored, true));
    let expected = before
        .replace("share=on,mem-path=/w/memory", "share=off,mem-path=/state/memory")
        + " -incoming defer -S";
    assert_eq!(after, expected);
}
