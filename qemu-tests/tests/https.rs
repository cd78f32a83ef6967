//! A device that speaks to its agent over TLS: the certificate of the agent is issued by the CA that stands in the initrd.
//!
//! QEMU itself loads the kernel, with the command line that the agent gave over HTTPS: the iPXE of Debian 13 has no cipher in
//! common with the agent.

use anyhow::{Context, Result};
use qemu_tests::{Builder, Image, Site, find_image, mac_of, secs, up, wait_until, write_file};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

const TLS: &str = "/data/agent/tls";

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    /// A stranger of the same name would be told by the signature alone.
    fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Certificate and key of the server with this address.
    fn issue(&self, address: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new([address.to_owned()])?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

/// An archive as the kernel unpacks it, with one file (Documentation/driver-api/early-userspace/buffer-format.rst).
fn archive(folders: &[&str], path: &str, bytes: &[u8]) -> Vec<u8> {
    const FOLDER: u32 = 0o040_755;
    const FILE: u32 = 0o100_644;
    let mut archive = Vec::new();
    let mut add = |name: &str, mode: u32, bytes: &[u8]| {
        let (name_bytes, file_bytes) = (name.len() + 1, bytes.len());
        let header = format!(
            "070701{0:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{file_bytes:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_bytes:08x}{0:08x}",
            0, 1
        );
        for part in [[header.as_bytes(), name.as_bytes(), b"\0"].concat(), bytes.to_vec()] {
            archive.extend(part);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
    };
    folders.iter().for_each(|folder| add(folder, FOLDER, b""));
    add(path, FILE, bytes);
    add("TRAILER!!!", 0, b"");
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive
}

/// The device, with the boot that the agent gives it over HTTPS, and this CA in its initrd.
async fn device(site: &Site, number: u32, ca: &str) -> Result<Builder> {
    let mac = mac_of(number).replace(':', "-");
    let ask = format!("curl -sS --cacert {TLS}/test-ca.crt https://10.77.0.1/boot/{mac}.ipxe");
    let script = site.agent.debug().check(&ask).await?;
    let command_line = script.lines().find_map(|line| {
        line.strip_prefix("kernel ")?.split_once(" initrd=initrd ")?.1.split_once(" || ")
    });
    let (command_line, _) = command_line.with_context(|| format!("no kernel in {script}"))?;
    assert!(command_line.contains(" cd.server=https://10.77.0.1 "), "{command_line}");
    let own = archive(&["etc", "etc/clusterducks"], "etc/clusterducks/ca.pem", ca.as_bytes());
    let initrd = site.lan.workspace().path().join(format!("initrd-{number}"));
    write_file(&initrd, &[own, std::fs::read(find_image(Image::GuestInitrd)?)?].concat())?;
    let kernel = find_image(Image::GuestKernel)?;
    let machine = site.machine(number)?.nics(|nic| nic.boot = false);
    Ok(machine.kernel(&kernel, &initrd, command_line))
}

#[tokio::test]
async fn a_device_trusts_an_agent_of_its_own_ca_and_no_other() -> Result<()> {
    let mut site = Site::new("https").await?;
    site.add_device(10, "overlay");
    site.add_device(11, "overlay");
    site.apply().await?;
    let (ours, stranger) = (Ca::new("ours")?, Ca::new("a stranger's")?);
    let (certificate, key) = ours.issue("10.77.0.1")?;
    let shell = site.agent.debug();
    shell.check(&format!("mkdir -p {TLS}")).await?;
    for (name, text) in [("test-ca.crt", &ours.pem), ("boot.key", &key), ("boot.crt", &certificate)]
    {
        shell.put(&format!("{TLS}/{name}"), text.as_bytes()).await?;
    }
    wait_until("the agent to serve HTTPS", secs(10), async || {
        let asked = shell
            .exec(&format!("curl -s --cacert {TLS}/test-ca.crt https://10.77.0.1/boot.ipxe"))
            .await?;
        Ok(asked.success().then_some(()))
    })
    .await?;

    let misled = device(&site, 11, &stranger.pem).await?.start().await?;
    misled
        .expect("FAILED: metadata: no answer from the agent at https://10.77.0.1: ", secs(60))
        .await?;
    misled.expect("certificate", secs(1)).await?;
    drop(misled);

    let trusting = device(&site, 10, &ours.pem).await?.start().await?;
    up(&trusting).await?;
    site.wait_step(10, "up", secs(20)).await?;
    site.lan.passed()
}
