//! The console by keyboard alone, as WCAG 2.2 asks for (2.1.1, 2.4.3, 2.4.7, 2.4.11): nothing is clicked here.

use fantoccini::key::Key;
use serde_json::{Value, json};

use crate::tab::Tab;

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// Where the focus is, and whether somebody sees it there.
const FOCUS: &str = "
    const one = document.activeElement;
    if (!one || one === document.body) return null;
    const box = one.getBoundingClientRect(), style = getComputedStyle(one);
    const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
    return {
        what: one.outerHTML.slice(0, 120),
        text: (one.textContent || '').trim().slice(0, 60),
        name: one.name || '',
        id: one.id,
        ringed: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1 || style.boxShadow !== 'none',
        inside: box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight,
        bare: top === null || top === one || one.contains(top) || top.contains(one),
        after: window.before ? Boolean(window.before.compareDocumentPosition(one) & 4) || window.before.contains(one) : true,
        mark: (window.before = one) && true,
    };";

/// Walks.
pub(crate) async fn alone(tab: &mut Tab, network: i64) {
    skip_link(tab).await;
    for path in [
        "/".to_owned(),
        format!("/networks/{network}/devices"),
        format!("/networks/{network}/devices/new"),
    ] {
        order(tab, &path).await;
    }
    search(tab).await;
    menu(tab).await;
    create(tab).await;
}

async fn focus(tab: &Tab) -> Value {
    tab.ask(FOCUS).await
}

/// Tabs on until the focus is where `is` says.
async fn tab_to(tab: &Tab, what: &str, is: impl Fn(&Value) -> bool) {
    for _ in 0..150 {
        tab.keys(TAB).await;
        if is(&focus(tab).await) {
            return;
        }
    }
    panic!("the Tab key never came to {what}");
}

async fn skip_link(tab: &Tab) {
    tab.go("/").await;
    tab.keys(TAB).await;
    let first = focus(tab).await;
    assert_eq!(first["text"], "Skip to the content");
    assert!(first["inside"] == true && first["ringed"] == true, "{first}");
    tab.keys(ENTER).await;
    assert_eq!(focus(tab).await["id"], "content");
}

/// Every stop of the Tab key is to be seen, and they come as they stand on the page.
async fn order(tab: &mut Tab, path: &str) {
    tab.go(path).await;
    let mut stops = 0;
    // The devices alone have 50 rows with two stops each: the first ones tell enough.
    while stops < 60 {
        tab.keys(TAB).await;
        let now = focus(tab).await;
        if now.is_null() {
            break;
        }
        stops += 1;
        for what in ["ringed", "inside", "bare", "after"] {
            if now[what] != true {
                tab.wrong(format!("{path}: the focus is not {what}: {now}"));
            }
        }
    }
    assert!(stops > 10, "{path}: {stops} stops");
}

async fn search(tab: &Tab) {
    tab.go("/networks").await;
    tab.keys("/").await;
    assert_eq!(focus(tab).await["id"], "search");
    tab.keys("pc-007").await;
    tab.keys(ENTER).await;
    tab.arrives("/search?q=pc-007").await;
    tab.says("pc-007").await;
    tab.says("in north").await;
    // In a field it is a letter like any other.
    let filter = tab.one("main input[name=q]").await;
    filter.send_keys("/").await.unwrap();
    assert_eq!(filter.prop("value").await.unwrap().as_deref(), Some("pc-007/"));
}

/// The menu of the account opens, is walked, and closes with Escape, which gives the focus back.
async fn menu(tab: &Tab) {
    tab.go("/").await;
    tab_to(tab, "the account's menu", |now| now["text"] == "ada").await;
    tab.keys(ENTER).await;
    let open = "return document.querySelector('details.account').open;";
    assert_eq!(tab.ask(open).await, json!(true));
    tab.keys(TAB).await;
    assert_eq!(focus(tab).await["text"], "My account");
    tab.keys(&Key::Escape.to_string()).await;
    assert_eq!(tab.ask(open).await, json!(false));
    assert_eq!(focus(tab).await["text"], "ada");
}

async fn create(tab: &Tab) {
    tab.go("/organizations").await;
    tab_to(tab, "the link", |now| now["text"] == "New organization").await;
    tab.keys(ENTER).await;
    tab_to(tab, "the name", |now| now["name"] == "name").await;
    tab.keys("Lakeside School").await;
    tab.keys(ENTER).await;
    tab.arrives("/organizations").await;
    tab.says("Lakeside School").await;
    tab_to(tab, "the record", |now| now["text"] == "Lakeside School").await;
    tab.keys(ENTER).await;
    tab_to(tab, "its end", |now| now["text"] == "Delete …").await;
    tab.keys(ENTER).await;
    tab.says("Delete Lakeside School").await;
    tab_to(tab, "its name", |now| now["name"] == "name").await;
    tab.keys("Lakeside School").await;
    tab.keys(ENTER).await;
    tab.arrives("/organizations").await;
    assert!(!tab.text().await.contains("Lakeside School"));
}
