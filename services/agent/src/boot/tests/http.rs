//! What devices and strangers get over HTTP.

use std::{
    collections::BTreeSet, net::Ipv4Addr, sync::Arc, sync::atomic::Ordering, time::Duration,
};

use model::{
    desired::Dhcp,
    wire::{BootStep, Event, EventKind},
};

use super::lab::{self, KERNEL_BYTES, Lab};
use crate::boot::{ProvisionError, TOLD_REFUSALS};

const PC1: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 10);
const PC2: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 11);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 200);

fn steps(lab: &Lab) -> Vec<(String, BootStep, String)> {
    let boots = lab.events.since(0, usize::MAX).into_iter().filter_map(|event| match event.kind {
        EventKind::Boot { device, step, message, .. } => Some((device.to_string(), step, message)),
        _ => None,
    });
    boots.collect()
}

#[tokio::test]
async fn an_unknown_machine_waits_and_is_discovered_until_it_is_a_device() {
    let lab = Lab::start().await;
    let path = "/boot/52-54-00-00-00-99.ipxe?uuid=4C4C&serial=S%0Areboot&manufacturer=A+%20B&product=%24%7Bmac%7D&arch=x86_64&platform=efi";
    let script = lab.script(STRANGER, path).await;
    assert!(script.contains("52:54:00:00:00:99") && script.contains("chain --replace"), "{script}");
    assert!(!script.contains("${") && !script.contains("\nreboot"), "{script}");
    let found = lab.service.discoveries().list();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].uuid.as_str(), found[0].serial.as_str()), ("4c4c", "S?reboot"));
    assert_eq!(found[0].manufacturer, "A+ B");
    assert_eq!((found[0].address, found[0].arch.as_str()), (Some(STRANGER), "x86_64"));
    assert_eq!(lab.events.since(0, 9).len(), 1);
    lab.script(STRANGER, path).await;
    assert_eq!(lab.events.since(0, 9).len(), 1, "it is news once");

    let mut desired = lab::desired();
    desired.devices[0].macs.push("52:54:00:00:00:99".parse().unwrap());
    lab.bench.put(desired, lab.folder.path());
    lab.service.document_changed();
    assert!(lab.service.discoveries().list().is_empty());
    assert!(lab.script(STRANGER, path).await.contains("cd.token="), "approved, it boots at once");
}

#[tokio::test]
async fn where_our_dhcp_gives_addresses_a_device_is_answered_at_its_own_alone() {
    let lab = Lab::start().await;
    let mut desired = lab::desired();
    let (first, last) = ("127.77.0.200".parse().unwrap(), "127.77.0.250".parse().unwrap());
    desired.networks[0].dhcp = Dhcp::Authoritative { first, last };
    desired.groups[0].production = 2;
    lab.bench.put(desired, lab.folder.path());
    let path = "/boot/52-54-00-00-00-01.ipxe";
    for _ in 0..2 {
        let script = lab.script(PC2, path).await;
        assert!(!script.contains("cd.token=") && script.contains("\ndhcp netX ||\n"), "{script}");
        assert!(script.contains("pc-01 has the address 127.77.0.10, and 127.77.0.11 asks"));
    }
    assert_eq!(lab.bench.provisioned.load(Ordering::SeqCst), 0);
    let told = lab.events.since(0, usize::MAX);
    assert!(
        matches!(&told[..], [Event { kind: EventKind::Refused { device, address, .. }, .. }]
            if device.as_str() == "pc-01" && *address == PC2),
        "{told:?}"
    );
    let server = Ipv4Addr::new(127, 77, 0, 1);
    for from in [PC1, server] {
        assert!(lab.script(from, path).await.contains("cd.token="), "{from}");
    }
}

#[tokio::test]
async fn a_neighbour_of_ever_new_addresses_does_not_drive_other_news_out() {
    let lab = Lab::start().await;
    let mut desired = lab::desired();
    let (first, last) = ("127.77.0.200".parse().unwrap(), "127.77.0.250".parse().unwrap());
    desired.networks[0].dhcp = Dhcp::Authoritative { first, last };
    lab.bench.put(desired, lab.folder.path());
    let path = "/boot/52-54-00-00-00-01.ipxe";
    for last in 100..100 + 2 * TOLD_REFUSALS as u8 {
        lab.script(Ipv4Addr::new(127, 77, 0, last), path).await;
    }
    assert_eq!(lab.events.since(0, usize::MAX).len(), TOLD_REFUSALS);
    lab.service.note_step(&lab::name("pc-01"), &lab::boot_id(1), BootStep::Up, String::new());
    lab.script(Ipv4Addr::new(127, 77, 0, 100), path).await;
    assert_eq!(lab.events.since(0, usize::MAX).len(), TOLD_REFUSALS + 2, "after a boot it is news");
}

#[tokio::test]
async fn facts_that_can_not_be_read_do_not_cost_the_boot() {
    let lab = Lab::start().await;
    assert_eq!(lab.get(PC1, "/boot.ipxe").await.text(), crate::boot::ipxe::BOOT_SCRIPT);
    let script = lab.script(PC1, "/boot/52:54:00:00:00:01.ipxe?uuid=1&uuid=2&serial=%ff%00").await;
    assert!(script.contains("pc-01 boots lab g1"), "{script}");
    assert_eq!(lab.get(PC1, "/boot/52-54-00-00-00-01").await.status, 404);
    assert_eq!(lab.get(PC1, "/boot/..%2f..%2fetc%2fpasswd.ipxe").await.status, 404);
}

#[tokio::test]
async fn a_device_boots_from_script_to_up_and_each_step_is_told_once() {
    let lab = Lab::start().await;
    let (token, boot) = lab.boot(PC1, "52-54-00-00-00-01").await;
    for file in ["vmlinuz", "initrd", "vmlinuz"] {
        let answer = lab.get(PC1, &format!("/files/lab/1/{file}?boot={boot}")).await;
        assert_eq!(answer.status, 200);
    }
    let metadata = lab.metadata(PC1, &token).await;
    assert_eq!(metadata.status, 200);
    assert_eq!(metadata.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(metadata.text().starts_with(&format!("boot={boot}\ndevice=pc-01\n")));
    for step in ["initrd", "root", "up", "up"] {
        assert_eq!(lab.event(PC1, &token, &format!("step={step}\nmessage=m\n")).await.status, 204);
    }
    let told: Vec<BootStep> = steps(&lab).into_iter().map(|(_, step, _)| step).collect();
    use BootStep::{Initrd, Kernel, Network, Root, Script, Up};
    assert_eq!(told, [Script, Kernel, Initrd, Network, Root, Up]);
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &lab.registry).unwrap();
    assert!(metrics.contains("clusterducks_boot_steps_total{step=\"up\"} 1"), "{metrics}");
    assert!(metrics.contains("requests_total{route=\"Files\",status=\"200\"} 3"), "{metrics}");
    assert!(metrics.contains("clusterducks_boot_provision_seconds_count 1"), "{metrics}");
}

#[tokio::test]
async fn a_token_is_refused_when_used_unknown_or_another_devices() {
    let lab = Lab::start().await;
    let (token, _) = lab.boot(PC1, "52-54-00-00-00-01").await;
    let (other, _) = lab.boot(PC2, "52-54-00-00-00-02").await;
    assert_eq!(lab.metadata(PC2, &token).await.status, 403);
    assert_eq!(lab.metadata(PC1, &other).await.status, 403);
    assert_eq!(lab.metadata(PC1, &"0".repeat(64)).await.status, 403);
    assert_eq!(lab.get(PC1, "/metadata/v1/boot").await.status, 403);
    assert_eq!(lab.event(PC2, &token, "step=up\n").await.status, 403);
    assert_eq!(lab.metadata(PC1, &token).await.status, 200, "refusals did not use it up");
    assert_eq!(lab.metadata(PC1, &token).await.status, 403);
    assert_eq!(lab.event(PC1, &token, "step=root\n").await.status, 204, "it still tells steps");
    lab.boot(PC1, "52-54-00-00-00-01").await;
    assert_eq!(lab.event(PC1, &token, "step=up\n").await.status, 403, "a new boot voids it");
}

#[tokio::test]
async fn steps_can_not_be_forged_and_messages_are_cleaned() {
    let lab = Lab::start().await;
    let (token, boot) = lab.boot(PC1, "52-54-00-00-00-01").await;
    for body in
        ["step=kernel\n", "step=script\n", "message=x\n", "nonsense", "step=up\nextra=1\n", "\u{0}"]
    {
        assert_eq!(lab.event(PC1, &token, body).await.status, 400, "{body:?}");
    }
    lab.get(PC1, &format!("/files/lab/2/vmlinuz?boot={boot}")).await;
    lab.get(PC1, &format!("/files/lab/1/vmlinuz?boot={}", "f".repeat(32))).await;
    assert_eq!(steps(&lab).len(), 1, "only the script");
    lab.event(PC1, &token, "step=failed\nmessage=no \x1b[31m disk=/dev/sda\n").await;
    let told = steps(&lab);
    assert_eq!(told[1], ("pc-01".into(), BootStep::Failed, "no ?[31m disk=/dev/sda".into()));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let lab = Lab::start().await;
    let (token, _) = lab.boot(PC1, "52-54-00-00-00-01").await;
    let body = format!("step=up\nmessage={}\n", "x".repeat(5000));
    assert_eq!(lab.event(PC1, &token, &body).await.status, 413);
}

#[tokio::test]
async fn only_the_networks_own_subnet_is_answered() {
    let lab = Lab::start().await;
    for path in ["/boot.ipxe", "/boot/52-54-00-00-00-01.ipxe", "/nowhere"] {
        assert_eq!(lab.get(Ipv4Addr::new(127, 0, 0, 1), path).await.status, 403, "{path}");
    }
    assert_eq!(lab.bench.provisioned.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn files_have_validators_and_ranges() {
    let lab = Lab::start().await;
    let path = "GET /files/lab/1/vmlinuz";
    let whole = lab.ask(PC1, path, "").await;
    let tag = format!("\"{}\"", "a".repeat(64));
    assert_eq!((whole.status, whole.body.len()), (200, KERNEL_BYTES));
    assert_eq!(whole.header("etag"), Some(tag.as_str()));
    assert_eq!(whole.header("content-length"), Some("300000"));
    let cases = [
        ("bytes=0-9", 206, 0..10),
        ("bytes=299990-", 206, 299_990..300_000),
        ("bytes=65530-65545", 206, 65_530..65_546),
        ("bytes=-5", 206, 299_995..300_000),
        ("bytes=299999-400000", 206, 299_999..300_000),
        ("bytes=5-4", 200, 0..300_000),
        ("bytes=0-1,3-4", 200, 0..300_000),
        ("bytes=+1-2", 200, 0..300_000),
    ];
    for (range, status, bytes) in cases {
        let part = lab.ask(PC1, &format!("{path}\nRange: {range}\n"), "").await;
        assert_eq!(part.status, status, "{range}");
        assert!(part.body == whole.body[bytes], "{range}");
    }
    let beyond = lab.ask(PC1, &format!("{path}\nRange: bytes=300000-\n"), "").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */300000")));
    let part = lab.ask(PC1, &format!("{path}\nRange: bytes=1-2\n"), "").await;
    assert_eq!(part.header("content-range"), Some("bytes 1-2/300000"));
    let same = lab.ask(PC1, &format!("{path}\nIf-None-Match: \"x\", W/{tag}\n"), "").await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let old = lab.ask(PC1, &format!("{path}\nIf-Range: \"x\"\nRange: bytes=0-1\n"), "").await;
    assert_eq!((old.status, old.body.len()), (200, KERNEL_BYTES));
    let head = lab.ask(PC1, "HEAD /files/lab/1/vmlinuz", "").await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("300000"), 0));
}

#[tokio::test]
async fn only_boot_files_are_given_out() {
    let lab = Lab::start().await;
    for path in [
        "/files/lab/1/undionly.kpxe",
        "/files/lab/3/vmlinuz",
        "/files/lab/x/vmlinuz",
        "/files/..%2f/1/vmlinuz",
        "/files/lab/1/..%2finitrd",
        "/ipxe/..%2fvmlinuz",
        "/ipxe/.",
        "/ipxe/..",
        "/ipxe/nothing",
    ] {
        assert_eq!(lab.get(PC1, path).await.status, 404, "{path}");
    }
    assert_eq!(lab.get(PC1, "/ipxe/undionly.kpxe").await.body, b"pxe");
}

#[tokio::test]
async fn a_device_of_its_own_disk_is_told_its_secrets_and_no_token() {
    let lab = Lab::start().await;
    let script = lab.script(PC1, "/boot/52-54-00-00-00-03.ipxe").await;
    assert!(
        script.contains(
            "sanboot iscsi:127.77.0.1::3260:0:iqn.2026-01.org.clusterducks:device.pc-03 ||"
        ),
        "{script}"
    );
    assert!(
        script.contains("\nset reverse-password ddddeeeeffff\n") && !script.contains("cd.token")
    );
}

#[tokio::test]
async fn a_menu_leads_to_what_its_entries_say() {
    let lab = Lab::start().await;
    let path = "/boot/52-54-00-00-00-04.ipxe";
    let menu = lab.script(PC1, path).await;
    assert!(menu.contains("choose --default 1 --timeout 5000 entry"), "{menu}");
    assert_eq!(lab.bench.provisioned.load(Ordering::SeqCst), 0, "a menu provisions nothing");
    for (entry, text) in [
        ("0", "boots lab g1"),
        ("1", "boots lab g2"),
        ("2", "sanboot --no-describe --drive 0x80"),
        ("3", "\nshell ||"),
        ("4", "\nreboot\n"),
        ("5", "lab/9 is not there"),
        ("6", "choose "),
        ("%0Areboot", "choose "),
    ] {
        let script = lab.script(PC1, &format!("{path}?entry={entry}")).await;
        assert!(script.contains(text), "{entry}: {script}");
    }
}

#[tokio::test]
async fn what_hinders_a_boot_is_shown_and_tried_again() {
    let lab = Lab::start().await;
    let path = "/boot/52-54-00-00-00-01.ipxe";
    let what = "the image\nreboot\nof group lab ${mac} is being imported";
    *lab.bench.answer.lock().unwrap() = Err(ProvisionError::NotReady { what: what.into() });
    let script = lab.script(PC1, path).await;
    let text =
        "echo -- clusterducks: the image?reboot?of group lab $(mac) is being imported\n:again\n";
    assert!(script.contains(text) && script.contains("/boot.ipxe || goto again"), "{script}");
    *lab.bench.answer.lock().unwrap() = Ok(Duration::from_secs(60));
    assert!(lab.script(PC1, path).await.contains("pc-01 is still being made ready"));
    let elsewhere = lab.script(PC1, "/boot/52-54-00-00-00-05.ipxe").await;
    assert!(elsewhere.contains("pc-05 belongs to another network than lan"), "{elsewhere}");
    *lab.bench.answer.lock().unwrap() = Ok(Duration::ZERO);
    let mut desired = lab::desired();
    desired.groups[0].kernel_arguments = "quiet && reboot".into();
    lab.bench.put(desired, lab.folder.path());
    let script = lab.script(PC1, path).await;
    assert!(
        script.contains("the group's kernel arguments must be") && !script.contains("&&"),
        "{script}"
    );
}

#[tokio::test]
async fn requests_wait_for_provisioning_side_by_side() {
    let lab = Arc::new(Lab::start().await);
    *lab.bench.answer.lock().unwrap() = Ok(Duration::from_millis(100));
    let started = std::time::Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..100u8 {
        let lab = Arc::clone(&lab);
        let from = Ipv4Addr::new(127, 77, 0, 10 + number);
        asked.spawn(async move { lab.boot(from, "52-54-00-00-00-01").await.0 });
    }
    let tokens: BTreeSet<String> = asked.join_all().await.into_iter().collect();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "100 waits of 100 ms were one after another"
    );
    assert_eq!(tokens.len(), 100);
    let mut good = 0;
    for token in &tokens {
        good += u32::from(lab.metadata(PC1, token).await.status == 200);
    }
    assert_eq!(good, 1, "only the newest boot's token is good");
}
