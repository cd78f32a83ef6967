//! An image that comes over the network.

use anyhow::Result;
use qemu_tests::{
    DiskSpec, Lan, Machine, Site, TINY_GUEST_UP, answers, secs, wait_until, write_file,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

const IMAGE_BYTES: u64 = 32 << 20;
/// With a second from question to answer TCP takes ten of them to get going, so that the fetch lasts until it is cut off.
const FAR: Duration = Duration::from_millis(500);

/// A web server on the LAN, and the digest of the one image that it has.
async fn web_server(lan: &Lan) -> Result<(Machine, String)> {
    let mut image = vec![0; usize::try_from(IMAGE_BYTES)?];
    rand::fill(&mut image[..]);
    let file = lan.workspace().path().join("image.raw");
    write_file(&file, &image)?;
    let disk = DiskSpec::ReadOnly { file, serial: "image".into() };
    let web = lan.tiny("web", 2)?.disk(disk).start().await?;
    web.expect(TINY_GUEST_UP, secs(30)).await?;
    web.debug().check("mkdir /www && cat /dev/vda >/www/image.raw").await?;
    web.debug().check("httpd -f -vv -h /www </dev/null >/httpd.log 2>&1 &").await?;
    let digest = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((web, digest))
}

fn volume(sha256: &str) -> Value {
    json!({
        "name": "remote", "pool": "tank", "size_bytes": IMAGE_BYTES,
        "source": { "location": "http://10.77.0.2/image.raw", "format": "raw", "sha256": sha256 }
    })
}

#[tokio::test]
async fn a_fetch_goes_on_where_it_was_cut_off_and_an_image_with_another_digest_is_refused()
-> Result<()> {
    let mut site = Site::new("import-url").await?;
    let (web, digest) = web_server(&site.lan).await?;
    let wrong = "0".repeat(64);
    let before = site.document["volumes"].clone();
    site.document["volumes"] = json!([before[0], volume(&wrong)]);
    web.port(0)?.set_delay(FAR);
    site.send().await?;
    let job = wait_until("a part to be fetched", secs(15), async || {
        let job = site.status().await?["imports"]["remote"].clone();
        Ok((job["done_bytes"].as_u64() > Some(0)).then_some(job))
    })
    .await?;
    assert_eq!((&job["phase"], &job["total_bytes"]), (&json!("fetch"), &json!(IMAGE_BYTES)));
    assert!(job["done_bytes"].as_u64() < Some(IMAGE_BYTES), "cut off too late: {job}");
    web.port(0)?.cut();
    site.agent.debug().check("systemctl restart clusterducks-agent").await?;
    answers(&site.agent).await?;
    web.port(0)?.set_delay(Duration::ZERO);
    web.port(0)?.restore();

    let refusal = wait_until("the image to be refused", secs(60), async || {
        let failed = site.status().await?["imports"]["remote"]["message"].clone();
        Ok(failed.as_str().map(str::to_owned))
    })
    .await?;
    assert!(
        refusal.contains(&format!("has the SHA-256 digest {digest}, and not {wrong}")),
        "{refusal}"
    );
    let answers = web.debug().check("grep -o 'response:.*' /httpd.log").await?;
    assert!(answers.contains("206"), "the second fetch asked for a part: {answers}");

    site.document["volumes"] = json!([before[0], volume(&digest)]);
    site.apply().await?;
    let zvol = "/dev/zvol/tank/clusterducks/volumes/remote";
    let found = site.agent.debug().check(&format!("sha256sum <{zvol}")).await?;
    assert_eq!(found.split_whitespace().next(), Some(&*digest));
    site.lan.passed()
}
