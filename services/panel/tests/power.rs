//! A panel that is killed at any moment has lost nothing that it acknowledged, and is whole. The test starts itself as the
//! process that is killed; what a kill can't show, the bytes that a disk holds back, is SQLite's `synchronous=FULL`.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use panel::{
    noun::{Menu, Network, Organization, Place},
    operations::{Actor, Panel},
    store::{EntryQuery, ListQuery, Store},
};

const DATABASE: &str = "CLUSTERDUCKS_TEST_DATABASE";
const ROUNDS: usize = 12;
const ACTOR: Actor = Actor::Panel("test");

fn panel(path: &Path) -> Result<Panel, Box<dyn Error>> {
    Ok(Panel::new(Store::open(path)?, Arc::new(|| 1)))
}

/// Makes menus for ever, and says the name of each once it is made.
fn work(path: &Path) -> Result<(), Box<dyn Error>> {
    let panel = panel(path)?;
    let network = panel.list::<Network>(ACTOR, &ListQuery::default())?.rows.remove(0).id;
    let mut out = std::io::stdout().lock();
    for number in 0_u64.. {
        let name = format!("m-{}-{number}", std::process::id());
        let menu: Menu = serde_json::from_value(serde_json::json!({
            "name": name, "title": "x", "entries": [{ "label": "Boot", "action": "image" }] }))?;
        panel.create(ACTOR, network.place(), menu)?;
        writeln!(out, "made {name}")?;
        out.flush()?;
    }
    Ok(())
}

fn names(panel: &Panel) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut names = BTreeSet::new();
    let mut query = ListQuery { limit: Some(200), ..ListQuery::default() };
    loop {
        let page = panel.list::<Menu>(ACTOR, &query)?;
        names.extend(page.rows.iter().map(|menu| menu.value.name.to_string()));
        let Some(next) = page.next else { return Ok(names) };
        query.cursor = Some(next);
    }
}

#[test]
fn a_panel_that_is_killed_keeps_all_that_it_acknowledged() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::var_os(DATABASE) {
        return work(Path::new(&path));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("panel.db");
    let first = panel(&path)?;
    let organization: Organization = serde_json::from_value(serde_json::json!({ "name": "x" }))?;
    let organization = first.create(ACTOR, Place::Panel, organization)?.id;
    let network: Network = serde_json::from_value(serde_json::json!({ "name": "x" }))?;
    first.create(ACTOR, Place::Organization(organization), network)?;
    drop(first);
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        #[expect(clippy::disallowed_methods, reason = "the test kills a process of its own")]
        let mut child = Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "a_panel_that_is_killed_keeps_all_that_it_acknowledged",
                "--nocapture",
            ])
            .env(DATABASE, &path)
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("the child has no output")?;
        let mut lines = BufReader::new(out).lines();
        let mut made = 0;
        // Each round is cut a little later; between the last line and the kill the child goes on at will.
        while made < 1 + round * 3 {
            let line = lines.next().ok_or("the child ended by itself")??;
            if let Some((_, name)) = line.split_once("made ") {
                acknowledged.insert(name.to_owned());
                made += 1;
            }
        }
        child.kill()?;
        child.wait()?;
        // What it said before it died counts too.
        for line in lines {
            if let Some((_, name)) = line?.split_once("made ") {
                acknowledged.insert(name.to_owned());
            }
        }
        let panel = panel(&path)?;
        let kept = names(&panel)?;
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "lost in round {round}: {lost:?}");
        // A change and its entry in the log are one.
        let query = EntryQuery { limit: Some(1), ..EntryQuery::default() };
        let last = panel.audit(ACTOR, &query)?.rows.remove(0);
        assert!(kept.contains(&last.object), "logged and not made: {last:?}");
    }
    println!("{} changes acknowledged over {ROUNDS} kills, none lost", acknowledged.len());
    Ok(())
}
