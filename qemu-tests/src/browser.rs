//! Owns a person's way through the panel's console: curl with a jar of cookies, the hidden fields of forms, redirects. It trusts
//! the panel's root alone, and runs no script.

use crate::process::run_tool;
use crate::wait::secs;
use crate::workspace::{Workspace, write_file};
use anyhow::{Context, Result, bail};
use std::sync::Arc;

/// The name that every panel has on its LAN until somebody gives it another.
pub const PANEL_NAME: &str = "clusterducks.local";
/// What a form of the console carries besides what people see.
const HIDDEN: [&str; 2] = ["csrf", "version"];
const MOST_WORDS: usize = 600;

/// A browser with cookies of its own.
#[derive(Debug)]
pub struct Browser {
    workspace: Arc<Workspace>,
    port: u16,
}

/// A page, and where it stands after redirects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The path of its address.
    pub path: String,
    /// Its HTML.
    pub html: String,
    status: u16,
    redirected: bool,
}

impl Browser {
    /// A browser that knows the root certificate `root_pem`, for the console at this port of the host's loopback.
    pub fn new(workspace: Arc<Workspace>, port: u16, root_pem: &str) -> Result<Self> {
        write_file(&workspace.path().join("root.pem"), root_pem.as_bytes())?;
        Ok(Self { workspace, port })
    }

    /// Opens a page.
    pub async fn open(&self, path: &str) -> Result<Page> {
        let page = self.ask(path, Vec::new()).await?;
        if page.status != 200 {
            bail!("{path}: {} {}", page.status, page.words());
        }
        Ok(page)
    }

    /// Fills in the form at `path` and sends it; returns the page that it led to. A form that comes back is an error that shows
    /// what stands in it.
    pub async fn save(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        self.send(path, path, fields).await?.led_on(path)
    }

    /// Presses the button on the page at `shown` that sends to `path`; returns the page that it led to.
    pub async fn press(&self, shown: &str, path: &str) -> Result<Page> {
        self.send(shown, path, &[]).await?.led_on(path)
    }

    /// Fills in the form on the page at `shown` that sends to `path`; returns the page that it led to.
    pub async fn fill(&self, shown: &str, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        self.send(shown, path, fields).await?.led_on(path)
    }

    /// Fills in the form at `path`, whose answer is a page of its own; returns that.
    pub async fn ask_for(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        self.send(path, path, fields).await
    }

    async fn send(&self, shown: &str, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let form = self.open(shown).await?;
        let hidden = HIDDEN.iter().filter_map(|name| Some((*name, form.hidden(name)?)));
        let all = hidden.chain(fields.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.ask(path, all.map(|(name, value)| format!("{name}={value}")).collect()).await
    }

    async fn ask(&self, path: &str, fields: Vec<String>) -> Result<Page> {
        let (jar, root) =
            (self.workspace.path().join("cookies"), self.workspace.path().join("root.pem"));
        let (jar, root) = (jar.display().to_string(), root.display().to_string());
        let (port, patience) = (self.port, secs(10).as_secs().to_string());
        let resolve = format!("{PANEL_NAME}:{port}:127.0.0.1");
        let mut args: Vec<String> = [
            "--silent",
            "--show-error",
            "--globoff",
            "--location",
            "--max-redirs",
            "3",
            "--max-time",
            &patience,
            "--cacert",
            &root,
            "--resolve",
            &resolve,
            "--cookie",
            &jar,
            "--cookie-jar",
            &jar,
            "--header",
            "Sec-Fetch-Site: same-origin",
            "--write-out",
            "\n%{http_code} %{num_redirects} %{url_effective}",
        ]
        .map(str::to_owned)
        .into();
        for field in fields {
            args.extend(["--data-urlencode".to_owned(), field]);
        }
        let home = format!("https://{PANEL_NAME}:{port}");
        args.push(format!("{home}{path}"));
        let shown = tokio::task::spawn_blocking(move || run_tool("curl", &args)).await??;
        read(&shown, &home).with_context(|| format!("curl did not tell what became of {path}"))
    }
}

fn read(shown: &str, home: &str) -> Option<Page> {
    let (html, told) = shown.rsplit_once('\n')?;
    let mut words = told.split(' ');
    let (status, redirects, address) = (words.next()?, words.next()?, words.next()?);
    Some(Page {
        path: address.strip_prefix(home)?.to_owned(),
        html: html.to_owned(),
        status: status.parse().ok()?,
        redirected: redirects != "0",
    })
}

impl Page {
    /// Itself, where it is what a form led to.
    fn led_on(self, form: &str) -> Result<Self> {
        if self.status != 200 || !self.redirected {
            bail!("{form} was not taken: {} {}", self.status, self.words());
        }
        Ok(self)
    }

    /// What stands between the first `before` and the `after` that follows it, as people read it.
    pub fn between(&self, before: &str, after: &str) -> Option<String> {
        let (_, rest) = self.html.split_once(before)?;
        rest.split_once(after).map(|(found, _)| unescaped(found))
    }

    /// The first link to a record of those below `folder`, such as `/networks/7`.
    pub fn link(&self, folder: &str) -> Option<String> {
        let before = format!("href=\"{folder}");
        let links = self.html.split(&before).skip(1);
        let digits =
            |link: &str| -> String { link.chars().take_while(char::is_ascii_digit).collect() };
        let number = links.map(digits).find(|number| !number.is_empty())?;
        Some(format!("{folder}{number}"))
    }

    /// The link to the record of those below `folder` that is called `name`.
    pub fn link_called(&self, folder: &str, name: &str) -> Option<String> {
        let before = format!("href=\"{folder}");
        self.html.split(&before).skip(1).find_map(|link| {
            let (number, rest) = link.split_once("\">")?;
            let called = rest.split_once('<').is_some_and(|(called, _)| called == name);
            called.then(|| format!("{folder}{number}"))
        })
    }

    fn hidden(&self, name: &str) -> Option<String> {
        self.between(&format!("name=\"{name}\" value=\""), "\"")
    }

    /// Its words without the markup.
    pub fn words(&self) -> String {
        let body = self.html.split_once("<main").map_or(self.html.as_str(), |(_, body)| body);
        plain(body).chars().take(MOST_WORDS).collect()
    }

    /// The facts of the list below a heading, each with its name; nothing where the page has no such list.
    pub fn facts_below(&self, heading: &str) -> Option<String> {
        let (_, below) = self.html.split_once(&format!(">{heading}</h"))?;
        let section = below.split_once("<h").map_or(below, |(section, _)| section);
        let facts = section.split("<dt").skip(1).filter_map(|fact| fact.split_once("</dt>"));
        let facts = facts.map(|(name, fact)| format!("{}: {}", plain(name), plain(fact)));
        Some(facts.collect::<Vec<_>>().join("; ")).filter(|facts| !facts.is_empty())
    }
}

/// What stands outside of the tags; the text may begin inside of one.
fn plain(html: &str) -> String {
    let parts = html.split('<').filter_map(|part| part.split_once('>'));
    let words: Vec<&str> = parts.flat_map(|(_, text)| text.split_whitespace()).collect();
    unescaped(&words.join(" "))
}

/// The references that askama writes.
fn unescaped(html: &str) -> String {
    let references =
        [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    references.iter().fold(html.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_among_other_links() {
        let html = r#"<a href="/networks/new">New</a><a href="/networks/7/devices">north</a>"#;
        let page =
            Page { path: String::new(), html: html.to_owned(), status: 200, redirected: false };
        assert_eq!(page.link("/networks/").as_deref(), Some("/networks/7"));
        assert_eq!(page.link("/servers/"), None);
        let html = r#"<a href="/tunnels/1">old</a><a href="/tunnels/12">relay</a>"#.to_owned();
        let page = Page { html, ..page };
        assert_eq!(page.link_called("/tunnels/", "relay").as_deref(), Some("/tunnels/12"));
        assert_eq!(page.link_called("/tunnels/", "rela"), None);
    }

    #[test]
    fn facts_are_those_of_their_own_section() {
        let html = "<h2>What failed</h2>\n<p>Nothing.</p><h3>What waits</h3>\n<dl class=\"facts\">\
            <dt>pool tank</dt><dd>no <b>disk</b></dd><dt>dhcp</dt><dd>no card</dd></dl><h2>Pools</h2>";
        let page =
            Page { path: String::new(), html: html.to_owned(), status: 200, redirected: false };
        assert_eq!(page.facts_below("What failed"), None);
        let waits = page.facts_below("What waits").unwrap();
        assert_eq!(waits, "pool tank: no disk; dhcp: no card");
    }

    #[test]
    fn what_curl_tells_is_a_page_with_its_path_and_words() {
        let shown = "<p>no</p><main id=\"x\"><h1>A &#38; B</h1>\n<input name=\"csrf\" value=\"12\"></main>\n\
            200 1 https://clusterducks.local:8443/networks/7";
        let page = read(shown, "https://clusterducks.local:8443").unwrap();
        assert_eq!((page.path.as_str(), page.status, page.redirected), ("/networks/7", 200, true));
        assert_eq!(page.hidden("csrf").as_deref(), Some("12"));
        assert_eq!(page.hidden("version"), None);
        assert_eq!(page.words(), "A & B");
    }
}
