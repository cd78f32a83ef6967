//! What a person does at the browser: go, read, fill in, press, look. Everything else of WebDriver stays in here.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use axum::http::Method;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fantoccini::{
    Client, ClientBuilder, Locator, elements::Element, wd::WebDriverCompatibleCommand,
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::{ParseError, Url};

use crate::{axe, chromium::Chromium};

/// How long a page may take to show what it is waited for on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(25);

/// The narrowest screen that the console is made for.
const PHONE: (u32, u32) = (360, 740);
const DESK: (u32, u32) = (1280, 800);

/// The browser's one tab.
pub(crate) struct Tab {
    client: Client,
    root: String,
    pictures: PathBuf,
    /// What was wrong on the pages that were looked at.
    faults: Vec<String>,
}

/// A command that chromedriver knows beside those of WebDriver.
#[derive(Debug)]
struct Own(&'static str, Value);

impl WebDriverCompatibleCommand for Own {
    fn endpoint(&self, base_url: &Url, session_id: Option<&str>) -> Result<Url, ParseError> {
        base_url.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.0))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.1.to_string()))
    }
}

impl Tab {
    /// Opens the browser on a console.
    pub(crate) async fn open(chromium: &Chromium, console: SocketAddr) -> Self {
        let Value::Object(capabilities) = chromium.capabilities() else { unreachable!() };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&chromium.address())
            .await
            .expect("chromium starts");
        let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
        let _none_yet = fs::remove_dir_all(&pictures);
        for kind in ["light", "dark", "phone"] {
            fs::create_dir_all(pictures.join(kind)).unwrap();
        }
        let root = format!("https://{console}");
        let tab = Self { client, root, pictures, faults: Vec::new() };
        tab.size(DESK).await;
        tab
    }

    /// Closes the browser, and fails with all that was wrong on its pages.
    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
        assert!(
            self.faults.is_empty(),
            "{} faults:\n{}",
            self.faults.len(),
            self.faults.join("\n")
        );
    }

    /// Goes to a path of the console.
    pub(crate) async fn go(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.root)).await.unwrap();
    }

    /// The path, with its query, of the page that is shown.
    pub(crate) async fn path(&self) -> String {
        let url = self.client.current_url().await.unwrap();
        url.as_str().strip_prefix(&self.root).unwrap().to_owned()
    }

    /// Runs a script in the page.
    pub(crate) async fn ask(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// Runs a script in the page that answers by calling its last argument.
    pub(crate) async fn ask_async(&self, script: &str) -> Value {
        self.client.execute_async(script, Vec::new()).await.unwrap()
    }

    /// A command of the DevTools protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let own = Own("goog/cdp/execute", json!({ "cmd": command, "params": parameters }));
        self.client.issue_cmd(own).await.unwrap()
    }

    /// What a person reads on the page.
    pub(crate) async fn text(&self) -> String {
        self.one("body").await.text().await.unwrap()
    }

    /// Waits until the page says this.
    pub(crate) async fn says(&self, text: &str) {
        // A part may be replaced while it is read.
        let said = async || {
            let body = self.client.find(Locator::Css("body")).await.ok()?;
            body.text().await.ok()?.contains(text).then_some(())
        };
        if self.comes(said).await.is_none() {
            let (path, all) = (self.path().await, self.text().await);
            panic!("{path} does not say {text:?}:\n{all}");
        }
    }

    /// Waits until the browser is at this path.
    pub(crate) async fn arrives(&self, path: &str) {
        let there = async || (self.path().await == path).then_some(());
        if self.comes(there).await.is_none() {
            let (other, all) = (self.path().await, self.text().await);
            panic!("the browser is at {other}, not at {path}:\n{all}");
        }
    }

    async fn comes(&self, what: impl AsyncFn() -> Option<()>) -> Option<()> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if what().await.is_some() {
                return Some(());
            }
            tokio::time::sleep(AGAIN).await;
        }
        None
    }

    /// The element that a CSS selector finds.
    pub(crate) async fn one(&self, css: &str) -> Element {
        let found = self.client.find(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{css} on {}: {error}\n{}", self.path().await, self.page().await),
        }
    }

    async fn page(&self) -> String {
        self.client.source().await.unwrap_or_default()
    }

    /// Writes into the field of this name, or chooses what it offers, by its word or as it is read.
    pub(crate) async fn fill(&self, name: &str, value: &str) {
        let field = self.one(&format!("main [name=\"{name}\"]:not([type=hidden])")).await;
        if field.tag_name().await.unwrap() == "select" {
            let by_value = format!("option[value=\"{value}\"]");
            let chosen = match field.find(Locator::Css(&by_value)).await {
                Ok(option) => option.click().await,
                Err(_) => field.select_by_label(value).await,
            };
            return chosen.unwrap_or_else(|error| panic!("{value:?} of {name}: {error}"));
        }
        field.clear().await.unwrap();
        field.send_keys(value).await.unwrap();
    }

    /// Presses the button with this on it.
    pub(crate) async fn press(&self, label: &str) {
        self.click(&format!("//button[normalize-space()='{label}']")).await;
    }

    /// Follows the link with this on it.
    pub(crate) async fn follow(&self, label: &str) {
        self.click(&format!("//a[normalize-space()='{label}']")).await;
    }

    /// Clicks, and waits for the page that comes of it.
    pub(crate) async fn click(&self, xpath: &str) {
        let found = self.client.find_all(Locator::XPath(xpath)).await.unwrap();
        for element in found {
            if !element.is_displayed().await.unwrap() {
                continue;
            }
            self.ask("document.documentElement.dataset.left = '';").await;
            element.click().await.unwrap();
            let new = "return document.readyState === 'complete' && !('left' in document.documentElement.dataset);";
            let came = async || {
                let came = self.client.execute(new, Vec::new()).await.ok()?;
                (came == json!(true)).then_some(())
            };
            assert!(
                self.comes(came).await.is_some(),
                "nothing came of {xpath}:\n{}",
                self.text().await
            );
            return;
        }
        panic!("{xpath} is not on {}:\n{}", self.path().await, self.text().await);
    }

    /// Ticks the box of this name, or takes the tick away.
    pub(crate) async fn tick(&self, name: &str) {
        self.one(&format!("main [name=\"{name}\"]")).await.click().await.unwrap();
    }

    /// Whether something is on the page.
    pub(crate) async fn has(&self, xpath: &str) -> bool {
        !self.client.find_all(Locator::XPath(xpath)).await.unwrap().is_empty()
    }

    /// Takes the seat of somebody who is signed in.
    pub(crate) async fn sit(&self, session: &str) {
        let cookie = json!({ "name": "__Host-session", "value": session, "url": self.root,
            "path": "/", "secure": true, "httpOnly": true, "sameSite": "Lax" });
        self.devtools("Network.setCookie", cookie).await;
    }

    /// Types keys at whatever has the focus.
    pub(crate) async fn keys(&self, keys: &str) {
        let active = self.client.active_element().await.unwrap();
        active.send_keys(keys).await.unwrap();
    }

    async fn size(&self, (width, height): (u32, u32)) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    async fn scheme(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Looks at the page that is shown: light, dark, and on a phone; keeps a picture of each, and every fault.
    pub(crate) async fn look(&mut self, name: &str) {
        self.examine(name, true).await;
    }

    /// As [`Tab::look`], without pictures.
    pub(crate) async fn glance(&mut self, name: &str) {
        self.examine(name, false).await;
    }

    async fn examine(&mut self, name: &str, pictures: bool) {
        for scheme in ["light", "dark"] {
            self.scheme(scheme).await;
            for fault in axe::faults(self).await {
                self.wrong(format!("{name}, {scheme}: {fault}"));
            }
            if pictures {
                self.picture(scheme, name).await;
            }
        }
        self.fits(name, "the screen").await;
        self.scheme("light").await;
        self.size(PHONE).await;
        if pictures {
            self.picture("phone", name).await;
        }
        self.fits(name, "a phone").await;
        self.size(DESK).await;
        self.hear(name, &[]).await;
    }

    async fn fits(&mut self, name: &str, screen: &str) {
        let wide = self.ask(TOO_WIDE).await;
        if wide != json!([]) {
            self.wrong(format!("{name}: wider than {screen}: {wide}"));
        }
    }

    /// Keeps a fault, and says it at once: a walk that ends early does not come to say it.
    pub(crate) fn wrong(&mut self, fault: String) {
        eprintln!("{fault}");
        self.faults.push(fault);
    }

    /// What the browser itself complained about since it was last asked, but for what is `expected`.
    pub(crate) async fn hear(&mut self, name: &str, expected: &[&str]) {
        let log = self.client.issue_cmd(Own("se/log", json!({ "type": "browser" }))).await.unwrap();
        for entry in log.as_array().unwrap() {
            let message = entry["message"].as_str().unwrap_or_default();
            if !expected.iter().any(|known| message.contains(known)) {
                self.wrong(format!("{name}: the browser's log: {message}"));
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a picture is no configuration")]
    async fn picture(&self, kind: &str, name: &str) {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.devtools("Page.captureScreenshot", whole).await;
        let bytes = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        fs::write(self.pictures.join(kind).join(format!("{name}.png")), bytes).unwrap();
    }
}

/// What sticks out of the page to the right, when anything makes the page itself wider than the screen.
const TOO_WIDE: &str = "
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const scrolls = (one) => one && (getComputedStyle(one).overflowX !== 'visible' || scrolls(one.parentElement));
    const wide = [...document.querySelectorAll('body *')]
        .filter((one) => one.getBoundingClientRect().right > width + 1 && !scrolls(one.parentElement))
        .slice(0, 5)
        .map((one) => one.outerHTML.slice(0, 160));
    return [document.documentElement.scrollWidth + ' px', ...wide];";
