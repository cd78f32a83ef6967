//! A network with 5,000 devices, in the browser.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use panel::{
    noun::{Device, Id},
    store::ListQuery,
};

use crate::{
    rig::{ROOT, Rig},
    tab::Tab,
};

/// Far more than a page takes with 50 rows, and less than somebody waits for without wondering; measured on a debug build.
const SOON: Duration = Duration::from_secs(5);

/// Imports what is missing to 5,000, pages, filters and sorts them.
pub(crate) async fn devices(rig: &Rig, tab: &mut Tab, network: i64) {
    let mut text = String::from("name,macs,subnet,address,group,boot_mode\n");
    for number in 0..4800_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let mac = format!("52:54:00:02:{high:02x}:{low:02x}");
        writeln!(
            text,
            "seat-{number:04},{mac},lab,10.77.{}.{},exam,overlay",
            16 + number / 200,
            1 + number % 200
        )
        .unwrap();
    }
    let all = ListQuery { network: Some(Id::new(network)), ..ListQuery::default() };
    rig.panel().import(ROOT, Id::new(network), &text).unwrap();
    assert_eq!(rig.panel().count::<Device>(ROOT, &all).unwrap(), 5000);

    let list = format!("/networks/{network}/devices");
    let since = Instant::now();
    tab.go(&list).await;
    let took = since.elapsed();
    assert!(took < SOON, "5,000 devices took {took:?}");
    tab.says("5000 devices").await;
    tab.look("devices-5000").await;
    tab.follow("Next page").await;
    tab.says("pc-051").await;
    tab.follow("First page").await;
    tab.says("pc-001").await;
    tab.one("main input[name=q]").await.send_keys("seat-4799").await.unwrap();
    tab.says("10.77.39.200").await;
    assert!(!tab.text().await.contains("5000 devices"));
    tab.hear("5,000 devices", &[]).await;
}
