//! The panel's image as it is flashed: it starts by either firmware, serves its console, and keeps what it made over a power cut.

#![expect(clippy::indexing_slicing, reason = "a key that a JSON object lacks reads as null")]

use anyhow::{Context, Result, ensure};
use qemu_tests::switch::Tap;
use qemu_tests::{
    DiskSpec, Image, Lan, Machine, PANEL_NAME as NAME, first_code, secs, started_clean, token,
    wait_until,
};
use std::net::Ipv4Addr;
use std::time::Duration;

#[tokio::test]
async fn a_panel_serves_its_console_and_keeps_its_accounts_over_a_power_cut() -> Result<()> {
    let lan = Lan::new("panel")?;
    let neighbour = lan.dhcp_server(1).await?;
    let panel = lan.panel(Image::PanelDebug)?.bios().start().await?;
    started_clean(&panel, "/data/panel", 0).await?;
    assert_eq!(writable_by_the_service(&panel).await?, "/data/panel /tmp /var/tmp");

    let address = answer_to_name(&mut lan.tap()).await?;
    neighbour.debug().put("/tmp/request", get("/users").as_bytes()).await?;
    let plain = neighbour.debug().check(&format!("nc -w 10 {address} 80 </tmp/request")).await?;
    let plain = plain.to_lowercase();
    assert!(plain.contains(&format!("\nlocation: https://{NAME}/users\r")), "{plain}");

    let (_, root) = split(&ask(&panel, "", &get("/certificates/root.pem")).await?)?;
    let page = trusting(&panel, &root, &get("/first-start")).await?;
    assert!(page.contains("One-time code"), "{page}");
    make_the_first_account(&panel, &root).await?;

    let disk = DiskSpec::Overlay {
        base: panel.disk_file(0)?.to_owned(),
        format: "qcow2".into(),
        size_bytes: None,
        serial: "system".into(),
    };
    panel.power_cut();
    let panel = lan.panel_on(disk)?.uefi().named("panel-again").start().await?;
    started_clean(&panel, "/data/panel", 0).await?;
    let answer = trusting(&panel, &root, &get("/first-start")).await?;
    assert!(answer.starts_with("HTTP/1.0 303 "), "the account is gone: {answer}");
    lan.passed()
}

/// The folders that the service may write to, in its own view of the file systems.
async fn writable_by_the_service(panel: &Machine) -> Result<String> {
    let look = "user=$(id -u clusterducks-panel); \
        nsenter -t $(systemctl show -P MainPID clusterducks-panel) -m -S $user -G $user \
        find / \\( -path /proc -o -path /dev \\) -prune -o -type d -writable -print 2>/dev/null | sort | xargs";
    Ok(panel.debug().check(look).await?.trim().to_owned())
}

/// Asks the LAN for the panel by its name (RFC 6762), and returns the address of the answer.
async fn answer_to_name(tap: &mut Tap) -> Result<Ipv4Addr> {
    let query = query();
    wait_until("the panel to answer to its name", secs(30), async || {
        tap.send(&query);
        while let Ok(frame) = tap.receive(Duration::from_secs(1)).await {
            if let Some(address) = address_in(&frame) {
                return Ok(Some(address));
            }
        }
        Ok(None)
    })
    .await
}

/// The name as DNS writes it.
fn wire_name() -> Vec<u8> {
    let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
    NAME.split('.').flat_map(label).chain([0]).collect()
}

/// A multicast question for the panel's IPv4 address.
fn query() -> Vec<u8> {
    let dns =
        [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], wire_name().as_slice(), &[0, 1, 0, 1]].concat();
    let length = |header: usize| ((header + dns.len()) as u16).to_be_bytes();
    let udp = [&[0x14, 0xe9, 0x14, 0xe9][..], &length(8), &[0, 0]].concat();
    let mut ip =
        [&[0x45, 0][..], &length(28), &[0, 0, 0, 0, 255, 17, 0, 0, 10, 77, 0, 9, 224, 0, 0, 251]]
            .concat();
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let checksum = !((sum >> 16) + (sum & 0xffff)) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let ethernet = [0x01, 0, 0x5e, 0, 0, 0xfb, 0x52, 0x54, 0, 0xcd, 0xff, 9, 8, 0];
    [&ethernet[..], &ip, &udp, &dns].concat()
}

/// The IPv4 address in an answer to [`query`]: type, class, time to live and length stand between the name and it.
fn address_in(frame: &[u8]) -> Option<Ipv4Addr> {
    let is_answer = frame.get(36..38)? == [0x14, 0xe9] && frame.get(44)? & 0x80 != 0;
    let name = wire_name();
    let at = frame.windows(name.len()).position(|window| window == name).filter(|_| is_answer)?;
    let record = frame.get(at + name.len()..)?;
    let bytes: [u8; 4] = record.get(10..14)?.try_into().ok()?;
    (record.get(..2)? == [0, 1]).then(|| bytes.into())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.0\r\nHost: {NAME}\r\n\r\n")
}

/// What the console answers over TLS (s_client(1)).
async fn ask(panel: &Machine, options: &str, request: &str) -> Result<String> {
    let shell = panel.debug();
    shell.put("/run/request", request.as_bytes()).await?;
    let client =
        format!("openssl s_client -quiet -connect 127.0.0.1:443 -servername {NAME} {options}");
    shell.check(&format!("{client} </run/request 2>/run/tls || {{ cat /run/tls; false; }}")).await
}

/// The same, when its certificate is for the box's name and chains to `root`.
async fn trusting(panel: &Machine, root: &str, request: &str) -> Result<String> {
    panel.debug().put("/run/root.pem", root.as_bytes()).await?;
    let verified = format!("-verify_hostname {NAME} -verify_return_error -CAfile /run/root.pem");
    ask(panel, &verified, request).await
}

/// Head and body.
fn split(answer: &str) -> Result<(String, String)> {
    let parts = answer.split_once("\r\n\r\n").with_context(|| answer.to_owned())?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

/// Signs up as the first admin, by the code that stands in the box's log.
async fn make_the_first_account(panel: &Machine, root: &str) -> Result<()> {
    let code = first_code(panel).await?;
    let password = format!("{}-{}", token(), token());
    let form = format!(
        "code={code}&full_name=Ada+Lovelace&name=ada&mail=&password={password}&again={password}"
    );
    let request = format!(
        "POST /first-start HTTP/1.0\r\nHost: {NAME}\r\nSec-Fetch-Site: same-origin\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = trusting(panel, root, &request).await?;
    ensure!(answer.starts_with("HTTP/1.0 303 "), "the account was not made: {answer}");
    Ok(())
}
