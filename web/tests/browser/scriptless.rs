//! The console with scripts off: everything but what is live.

use serde_json::json;

use crate::{
    tab::Tab,
    walk::{PASSWORD, sign_in, sign_out},
};

/// Signs in, makes, changes, filters, sorts and deletes.
pub(crate) async fn walk(tab: &mut Tab, network: i64) {
    tab.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    sign_out(tab).await;
    sign_in(tab, "ada", PASSWORD).await;
    assert_eq!(tab.ask("return typeof htmx;").await, json!("undefined"), "scripts are off");

    let devices = format!("/networks/{network}/devices");
    tab.go(&devices).await;
    tab.fill("q", "pc-00").await;
    tab.press("Filter").await;
    tab.says("9 devices").await;
    tab.follow("Address").await;
    assert!(tab.path().await.contains("sort=address"), "{}", tab.path().await);
    tab.says("9 devices").await;

    tab.go(&devices).await;
    tab.follow("New device").await;
    tab.fill("name", "not a name").await;
    tab.fill("macs", "52:54:00:99:00:01").await;
    tab.fill("group", "lab").await;
    tab.press("Create").await;
    tab.says("Not saved.").await;
    assert_eq!(
        tab.one("#macs").await.prop("value").await.unwrap().as_deref(),
        Some("52:54:00:99:00:01")
    );
    tab.fill("name", "front-desk").await;
    tab.press("Create").await;
    tab.says("front-desk").await;
    tab.follow("Change").await;
    tab.fill("boot_mode", "Persistent: a clone of its own, kept").await;
    tab.press("Save").await;
    tab.says("persistent").await;
    tab.follow("Delete …").await;
    tab.fill("name", "front-desk").await;
    tab.press("Delete").await;
    tab.arrives(&devices).await;
    tab.says("200 devices").await;
    tab.one("input[name=device]").await.click().await.unwrap();
    tab.press("Change …").await;
    tab.says("Change 1 device").await;
    tab.hear("without scripts", &["422"]).await;
    tab.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": false })).await;
}
