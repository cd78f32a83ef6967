//! The whole agent on the simulated machine: documents through its socket, devices on loopback.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod lab;

use std::{net::Ipv4Addr, time::Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use lab::{Agent, PC_01, PC_02, document, token, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_document_makes_a_blank_server_boot_its_devices() {
    let agent = Agent::start();
    assert_eq!(agent.apply(&document(1)).await, (StatusCode::OK, json!({ "generation": 1 })));
    let status = agent.converged(1).await;
    assert!(status["datasets"]["tank/clusterducks/devices/pc-02"].is_object());
    assert_eq!(status["sessions"], json!({}), "nothing is exported without a boot");

    let (code, script) = agent.boot(PC_01, "/boot/52-54-00-00-01-01.ipxe", None).await;
    assert_eq!(code, StatusCode::OK);
    assert!(script.contains("/files/lab/1/vmlinuz"), "{script}");
    let (code, metadata) = agent.boot(PC_01, "/metadata/v1/boot", Some(token(&script))).await;
    assert_eq!(code, StatusCode::OK);
    assert!(
        metadata.contains("root.target=iqn.2026-01.org.clusterducks:generation.lab.g1\n"),
        "{metadata}"
    );
    let (code, _) = agent.boot(PC_01, "/metadata/v1/boot", Some(token(&script))).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "a token is good for one fetch");

    let (code, script) = agent.boot(PC_02, "/boot/52-54-00-00-01-02.ipxe", None).await;
    assert_eq!(code, StatusCode::OK);
    assert!(script.contains("iqn.2026-01.org.clusterducks:device.pc-02"), "{script}");
    let status = wait_for(async || {
        let status = agent.status().await;
        (status["sessions"].as_object().unwrap().len() == 2).then_some(status)
    })
    .await;
    assert!(status["datasets"]["tank/clusterducks/devices/pc-02"]["boot"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_is_refused_with_every_fault_and_the_last_good_one_stays() {
    let agent = Agent::start();
    agent.apply(&document(1)).await;
    let mut bad = document(2);
    bad["devices"][0]["address"] = json!("192.0.2.1");
    bad["groups"][0]["production"] = json!(7);
    let (status, refused) = agent.apply(&bad).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let paths: Vec<&str> =
        refused["faults"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["groups[0].production", "devices[0].address"]);

    bad = document(2);
    bad["devices"][1]["macs"][0] = json!("not a mac");
    let (status, refused) = agent.apply(&bad).await;
    assert_eq!(
        (status, &refused["faults"][0]["path"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("devices[1].macs[0]"))
    );

    agent.apply(&document(3)).await;
    let (status, refused) = agent.apply(&document(2)).await;
    assert_eq!(
        (status, &refused["faults"][0]["path"]),
        (StatusCode::CONFLICT, &json!("generation"))
    );
    let mut changed = document(3);
    changed["devices"] = json!([]);
    assert_eq!(
        agent.apply(&changed).await.0,
        StatusCode::CONFLICT,
        "a changed document needs a new number"
    );
    agent.converged(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_device_in_the_same_moment_are_one_boot() {
    let agent = Agent::start();
    agent.apply(&document(1)).await;
    agent.converged(1).await;
    let asked = (0..8).map(|_| agent.boot(PC_02, "/boot/52-54-00-00-01-02.ipxe", None));
    let scripts = futures(asked).await;
    assert!(
        scripts.iter().all(|(code, script)| *code == StatusCode::OK && script.contains("sanboot"))
    );
    let (_, events) = agent.api("GET", "/v1/events", String::new()).await;
    let boots: std::collections::BTreeSet<String> = String::from_utf8(events.to_vec())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "boot" && event["step"] == "script")
        .map(|event| event["boot"].as_str().unwrap().to_owned())
        .collect();
    assert!((1..8).contains(&boots.len()), "8 requests made {} boots", boots.len());
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in pending.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_goes_on_with_its_document_and_its_boots() {
    let mut agent = Agent::start();
    agent.apply(&document(1)).await;
    agent.converged(1).await;
    agent.boot(PC_01, "/boot/52-54-00-00-01-01.ipxe", None).await;
    agent.boot(PC_02, "/boot/52-54-00-00-01-02.ipxe", None).await;
    agent.restart().await;
    // The simulated machine is blank again: everything is made anew from what the agent kept.
    let status = agent.converged(1).await;
    let sessions: Vec<&String> = status["sessions"].as_object().unwrap().keys().collect();
    assert_eq!(
        sessions,
        [
            "iqn.2026-01.org.clusterducks:device.pc-02",
            "iqn.2026-01.org.clusterducks:generation.lab.g1"
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_not_known_is_shown_and_boots_once_it_is() {
    let agent = Agent::start();
    let mut document_without = document(1);
    document_without["devices"] = json!([]);
    agent.apply(&document_without).await;
    agent.converged(1).await;
    let path = "/boot/52-54-00-00-01-02.ipxe?uuid=6c1f&serial=S1&manufacturer=QEMU&product=PC&arch=x86_64&platform=efi";
    let (_, waiting) = agent.boot(PC_02, path, None).await;
    assert!(!waiting.contains("sanboot iscsi"), "{waiting}");
    let status = agent.status().await;
    assert_eq!(status["discovered"][0]["mac"], "52:54:00:00:01:02");
    assert_eq!(status["discovered"][0]["serial"], "S1");
    agent.apply(&document(2)).await;
    agent.converged(2).await;
    let (_, script) = agent.boot(PC_02, path, None).await;
    assert!(script.contains("iqn.2026-01.org.clusterducks:device.pc-02"), "{script}");
    wait_for(async || (agent.status().await["discovered"] == json!([])).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_what_the_owner_did_and_what_it_sees() {
    let agent = Agent::start();
    agent.apply(&document(7)).await;
    agent.converged(7).await;
    let mut bad = document(8);
    // No step can bring this about: the disk is not there.
    bad["pools"][0]["disks"][0]["serial"] = json!("SIM-1");
    bad["pools"][0]["name"] = json!("other");
    bad["volumes"][0]["pool"] = json!("other");
    let text = agent.metrics().await;
    let value = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap()
    };
    assert_eq!(value(&text, "clusterducks_owner_converged"), 1.0);
    assert_eq!(value(&text, "clusterducks_owner_generation"), 7.0);
    assert_eq!(value(&text, "clusterducks_owner_failures"), 0.0);
    assert_eq!(value(&text, "clusterducks_owner_waiting"), 0.0);
    assert_eq!(value(&text, "clusterducks_owner_sessions"), 0.0);
    assert!(value(&text, "clusterducks_owner_run_seconds_count") >= 1.0);
    let created = "clusterducks_owner_steps_total{kind=\"create-pool\",outcome=\"done\"}";
    assert_eq!(value(&text, created), 1.0);
    let size = value(&text, "clusterducks_owner_pool_size_bytes{pool=\"tank\"}");
    let free = value(&text, "clusterducks_owner_pool_free_bytes{pool=\"tank\"}");
    assert!(size > 0.0 && free <= size, "{free} of {size}");
    assert!(text.contains("\nclusterducks_boot_connections 0\n"), "{text}");

    agent.apply(&bad).await;
    wait_for(async || {
        let text = agent.metrics().await;
        let waits = value(&text, "clusterducks_owner_waiting") > 0.0;
        (waits && value(&text, "clusterducks_owner_converged") == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_told_as_soon_as_it_differs_from_the_one_that_is_known() {
    let agent = Agent::start();
    agent.apply(&document(1)).await;
    agent.converged(1).await;
    let (code, tag, shown) = agent.other_status("", 20).await;
    assert_eq!((code, &shown["generation"]), (StatusCode::OK, &json!(1)));
    let (code, same, _) = agent.other_status(&tag, 0).await;
    assert_eq!((code, &same), (StatusCode::NOT_MODIFIED, &tag));
    let began = Instant::now();
    let next = document(2);
    let ((code, other, shown), _) = tokio::join!(agent.other_status(&tag, 20), agent.apply(&next));
    assert_eq!((code, &shown["generation"]), (StatusCode::OK, &json!(2)));
    assert!(other != tag && began.elapsed().as_secs() < 10);
    // Somebody who is not known asks: no step of the owner's, and told all the same.
    let stranger = Ipv4Addr::new(127, 0, 0, 77);
    let told = async {
        let mut tag = other;
        loop {
            let (_, next, shown) = agent.other_status(&tag, 20).await;
            if shown["discovered"][0]["serial"] == "S9" {
                return;
            }
            tag = next;
        }
    };
    tokio::join!(told, agent.boot(stranger, "/boot/52-54-00-00-09-09.ipxe?serial=S9", None));
    assert!(began.elapsed().as_secs() < 15, "it was told, not asked for again");
}
