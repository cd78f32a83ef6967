//! What a device must not get: seen from a device that is booted, with root on it.

use anyhow::{Context as _, Result};
use qemu_tests::{Machine, Site, up};

const GENERATION: &str = "iqn.2026-01.org.clusterducks:generation.lab.g1";

/// Tries to log in from `device`; the answer is what iscsistart says, and whether it got in.
async fn log_in(
    device: &Machine,
    initiator: &str,
    target: &str,
    secrets: &str,
) -> Result<(bool, String)> {
    let script = format!(
        "timeout 40 iscsistart -i {initiator} -t {target} -g 1 -a 10.77.0.1 -p 3260 {secrets} 2>&1"
    );
    let output = device.debug().exec_within(&script, qemu_tests::secs(60)).await?;
    Ok((output.success(), output.stdout))
}

#[tokio::test]
async fn a_device_gets_nothing_with_wrong_secrets_another_name_or_a_used_token() -> Result<()> {
    let mut site = Site::new("refusals").await?;
    site.add_device(10, "overlay");
    site.add_device(11, "ephemeral");
    site.add_device(12, "overlay");
    site.apply().await?;
    let device = site.machine(10)?.bios().start().await?;
    up(&device).await?;
    let shell = device.debug();

    let me = "iqn.2026-01.org.clusterducks:initiator.pc-10";
    let wrong = "-u pc-10 -w wrongwrongwrong1 -U clusterducks -W wrongwrongwrong2";
    let (in_with_wrong_secrets, said) = log_in(&device, me, GENERATION, wrong).await?;
    assert!(!in_with_wrong_secrets, "{said}");
    let (in_without_secrets, said) = log_in(&device, me, GENERATION, "").await?;
    assert!(!in_without_secrets, "{said}");
    let stranger = "iqn.2026-01.org.clusterducks:initiator.pc-99";
    let (in_as_stranger, said) = log_in(&device, stranger, GENERATION, wrong).await?;
    assert!(!in_as_stranger, "{said}");
    let (in_at_other, said) =
        log_in(&device, me, "iqn.2026-01.org.clusterducks:device.pc-11", wrong).await?;
    assert!(!in_at_other, "{said}");

    // The token of this boot was used by the initrd; it stands on the kernel's command line for everybody to read.
    let fetch = "curl -s -o /dev/null -w '%{http_code}' -H \"Authorization: Bearer $token\" http://10.77.0.1/metadata/v1/boot";
    let own = "token=$(sed 's/.*cd.token=\\([0-9a-f]*\\).*/\\1/' /proc/cmdline)";
    assert_eq!(shell.check(&format!("{own}; {fetch}")).await?.trim(), "403", "a replayed token");
    let unknown = "token=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n')";
    assert_eq!(
        shell.check(&format!("{unknown}; {fetch}")).await?.trim(),
        "403",
        "a token that nobody was given"
    );

    // Another device's boot is not given out at this device's address, and a token that was is no use here. What asks from the
    // server's own address is answered.
    let theirs = "curl -s http://10.77.0.1/boot/52-54-00-cd-01-0c.ipxe";
    let refused = shell.check(theirs).await?;
    assert!(refused.contains("pc-12 has the address 10.77.0.12"), "{refused}");
    assert!(!refused.contains("cd.token="), "{refused}");
    let given = site.agent.debug().check(theirs).await?;
    let token = given.split_once("cd.token=").and_then(|(_, rest)| rest.split_whitespace().next());
    let token = token.with_context(|| format!("no token in {given}"))?;
    assert_eq!(
        shell.check(&format!("token={token}; {fetch}")).await?.trim(),
        "403",
        "another device's token"
    );
    site.lan.passed()
}
