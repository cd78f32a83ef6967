//! The tunnel's image as it is flashed: it starts by either firmware, shows the code that pairs it, is open for SSH and for the panel
//! alone, and keeps what it is over a power cut.

use anyhow::{Context, Result, ensure};
use qemu_tests::{DiskSpec, Image, Lan, Machine, code_in, pairing_code, started_clean};

/// Where the DHCP server of the LAN is, which the test knocks at the tunnel from.
const NEIGHBOUR: u32 = 1;

#[tokio::test]
async fn a_tunnel_shows_its_code_and_is_the_same_after_a_power_cut() -> Result<()> {
    let lan = Lan::new("tunnel")?;
    let neighbour = lan.dhcp_server(NEIGHBOUR).await?;
    let tunnel = lan.tunnel(Image::TunnelDebug)?.bios().start().await?;
    started_clean(&tunnel, "/data/tunnel", 0).await?;
    let shown = code(&tunnel).await?;
    let key = host_key(&tunnel).await?;

    let address = address(&tunnel).await?;
    let greeting = neighbour.debug().check(&format!("echo | nc -w 5 {address} 22")).await?;
    assert!(greeting.starts_with("SSH-2.0-OpenSSH_"), "{greeting}");
    for (port, open) in [(22, true), (8444, true), (80, false), (8006, false)] {
        let knock = neighbour.debug().exec(&format!("echo | nc -w 3 {address} {port}")).await?;
        assert_eq!(knock.success(), open, "port {port}");
    }
    // proc(5): state 0A listens; ports in hexadecimal, here 22 twice and 8444.
    let listening = "awk '$4 == \"0A\" { sub(\".*:\", \"\", $2); print $2 }' /proc/net/tcp /proc/net/tcp6 | sort | xargs";
    assert_eq!(tunnel.debug().check(listening).await?.trim(), "0016 0016 20FC");

    let disk = DiskSpec::Overlay {
        base: tunnel.disk_file(0)?.to_owned(),
        format: "qcow2".into(),
        size_bytes: None,
        serial: "system".into(),
    };
    tunnel.power_cut();
    let tunnel = lan.tunnel_on(disk)?.uefi().named("tunnel-again").start().await?;
    started_clean(&tunnel, "/data/tunnel", 0).await?;
    assert_eq!((code(&tunnel).await?, host_key(&tunnel).await?), (shown, key));
    lan.passed()
}

/// The pairing code, as it stands on the serial port and on the screen.
async fn code(tunnel: &Machine) -> Result<String> {
    let serial = pairing_code(tunnel).await?;
    // vcs(4): the characters of the first virtual console, without line ends.
    let screen = tunnel.debug().check("fold -w 80 /dev/vcs1").await?;
    ensure!(code_in(&screen).as_ref() == Some(&serial), "{screen}");
    Ok(serial)
}

async fn host_key(tunnel: &Machine) -> Result<String> {
    tunnel.debug().check("ssh-keygen -l -f /data/sshd/ssh_host_ed25519_key.pub").await
}

async fn address(tunnel: &Machine) -> Result<String> {
    let all = tunnel.debug().check("networkctl status | awk '/Address: 10/ { print $2 }'").await?;
    all.split_whitespace().next().map(str::to_owned).context("it has no address")
}
