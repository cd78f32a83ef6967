use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use panel::{
    backup::{Part, Writer},
    operations::Panel,
};
use serde_json::json;

use super::*;
use crate::backup as maker;

type Files = BTreeMap<PathBuf, Vec<u8>>;

const PASS_PHRASE: &str = "nine lanterns for otters";
const NOTHING: &[Host] = &[];

/// All files below a folder, by their paths.
fn state(folder: &Folder) -> Files {
    fn walk(at: &Path, root: &Path, into: &mut Files) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, into);
            } else {
                into.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let (mut all, root) = (BTreeMap::new(), folder.path(""));
    walk(&root, &root, &mut all);
    all
}

/// A folder with a panel, which has an organization of this name; the fingerprint of its root.
fn panel_at(path: &Path, name: &str) -> (Folder, String) {
    let opened = run::open(path, NOTHING).unwrap();
    let organization: panel::noun::Organization =
        serde_json::from_value(json!({ "name": name })).unwrap();
    let actor = operations::Actor::Panel("test");
    opened.app.panel().create(actor, panel::noun::Place::Panel, organization).unwrap();
    (Folder::open(path).unwrap(), opened.app.ca().root().fingerprint().with_colons())
}

/// The names of its organizations, and the fingerprint of its root, as a panel that begins there finds them.
fn found(folder: &Folder) -> (Vec<String>, String) {
    let opened = run::open(&folder.path(""), NOTHING).unwrap();
    let actor = operations::Actor::Panel("test");
    let query = store::ListQuery::default();
    let rows = opened.app.panel().list::<panel::noun::Organization>(actor, &query).unwrap().rows;
    let names = rows.into_iter().map(|row| row.value.name.to_string()).collect();
    (names, opened.app.ca().root().fingerprint().with_colons())
}

/// The backup of a panel.
fn backup_of(folder: &Folder) -> Vec<u8> {
    let panel = Panel::new(Store::open(&folder.path(run::DATABASE)).unwrap(), Arc::new(|| 1));
    let mut bytes = Vec::new();
    let mut made = maker::make(&panel, folder, PASS_PHRASE.into()).unwrap();
    made.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A backup of these files.
fn packed(files: &Files) -> Vec<u8> {
    let name = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let part = |(path, bytes): (&PathBuf, &Vec<u8>)| Part {
        name: name(path),
        size_bytes: bytes.len() as u64,
    };
    let manifest = Manifest::new("0.0.9", 1_795_000_000, files.iter().map(part).collect());
    let mut writer = Writer::begin(Vec::new(), PASS_PHRASE.into(), &manifest).unwrap();
    for (path, bytes) in files {
        writer.part(&name(path), &bytes[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn staged(data: &Folder, backup: &[u8], before: Before) -> Result<Staged, Error> {
    stage(data, backup, PASS_PHRASE.into(), NOTHING, before, &mut |_| {})
}

/// The files of a panel that is closed.
fn closed(folder: &Folder) -> Files {
    drop(Store::open(&folder.path(run::DATABASE)).unwrap());
    let mut files = state(folder);
    files.retain(|path, _| path.extension().is_none_or(|extension| extension != "crl"));
    files
}

#[test]
fn what_is_no_whole_panel_is_refused_and_nothing_is_changed() {
    let place = tempfile::tempdir().unwrap();
    let (source, _) = panel_at(&place.path().join("source"), "Old School");
    let (other, _) = panel_at(&place.path().join("other"), "Other School");
    let (data, _) = panel_at(&place.path().join("data"), "New School");
    let (good, before) = (closed(&source), state(&data));
    let refused = |change: &dyn Fn(&mut Files)| {
        let mut files = good.clone();
        change(&mut files);
        let refused = staged(&data, &packed(&files), Before::Keep).unwrap_err();
        assert_eq!(state(&data), before, "{refused:?}");
        refused
    };
    let database = PathBuf::from(run::DATABASE);
    let odd = refused(&|files| drop(files.insert("a/x.sealed".into(), vec![1])));
    assert!(matches!(&odd, Error::Unknown(name) if name == "a/x.sealed"), "{odd:?}");
    let odd = refused(&|files| drop(files.remove(Path::new("issuing.sealed"))));
    assert!(matches!(odd, Error::Incomplete("issuing.sealed")), "{odd:?}");
    let odd = refused(&|files| {
        drop(files.insert("box.key".into(), fs::read(other.path("box.key")).unwrap()))
    });
    assert!(matches!(odd, Error::Begin(_)), "{odd:?}");
    let odd = refused(&|files| files.get_mut(&database).unwrap().fill(7));
    assert!(matches!(odd, Error::Store(_)), "{odd:?}");
    let odd = refused(&|files| files.get_mut(&database).unwrap()[8192..16_384].fill(7));
    assert!(
        matches!(odd, Error::Store(store::Error::Corrupt { .. } | store::Error::Sqlite(_))),
        "{odd:?}"
    );
    // The schema's version stands in the header (https://sqlite.org/fileformat2.html#user_version_number).
    let newer =
        refused(&|files| files.get_mut(&database).unwrap()[60..64].copy_from_slice(&[0, 0, 1, 0]));
    assert!(matches!(newer, Error::Store(store::Error::Newer { found: 256, .. })), "{newer:?}");
}

#[test]
fn what_is_no_backup_is_refused_and_nothing_is_changed() {
    let place = tempfile::tempdir().unwrap();
    let (source, _) = panel_at(&place.path().join("source"), "Old School");
    let (data, _) = panel_at(&place.path().join("data"), "New School");
    let (backup, before) = (backup_of(&source), state(&data));
    let wrong = stage(&data, &backup[..], "another".into(), NOTHING, Before::Keep, &mut |_| {});
    assert!(matches!(wrong, Err(Error::Backup(backup::Error::WrongPassPhrase))), "{wrong:?}");
    let cut = staged(&data, &backup[..backup.len() - 100], Before::Keep);
    assert!(matches!(cut, Err(Error::Backup(backup::Error::Damaged(_)))), "{cut:?}");
    let other = staged(&data, b"PK\x03\x04 no backup", Before::Keep);
    assert!(matches!(other, Err(Error::Backup(backup::Error::NotABackup(_)))), "{other:?}");
    assert_eq!(state(&data), before);
    place::finish(&data, &mut |_| panic!("nothing is to be done")).unwrap();
    assert_eq!(state(&data), before);
}

#[test]
fn a_restored_panel_is_the_one_of_the_backup_and_what_was_there_lies_beside() {
    let place = tempfile::tempdir().unwrap();
    let (source, root) = panel_at(&place.path().join("source"), "Old School");
    let (data, _) = panel_at(&place.path().join("data"), "New School");
    data.write("notes.txt", b"somebody's own").unwrap();
    let before = closed(&data);
    let staged = staged(&data, &backup_of(&source), Before::Keep).unwrap();
    assert_eq!(staged.root, root);
    let kept = place::finish(&data, &mut |_| {}).unwrap().unwrap();
    assert_eq!(kept, data.path(staged.kept.as_ref().unwrap()));
    for (path, bytes) in
        before.iter().filter(|(path, _)| path.extension().is_none_or(|e| e != "txt"))
    {
        assert_eq!(fs::read(kept.join(path)).unwrap(), *bytes, "{}", path.display());
    }
    let client =
        |folder: &Folder| run::open(&folder.path(""), NOTHING).unwrap().client.certificate.serial();
    assert_ne!(client(&data), client(&source), "agents may know that one to be taken back");
    assert_eq!(found(&data), (vec!["Old School".to_owned()], root));
    assert_eq!(data.read("notes.txt").unwrap().unwrap(), b"somebody's own");
    assert_eq!(found(&Folder::open(&kept).unwrap()).0, ["New School"]);
}

#[test]
fn a_database_of_an_older_panel_is_brought_forward() {
    let place = tempfile::tempdir().unwrap();
    let (source, root) = panel_at(&place.path().join("source"), "Old School");
    let mut files = closed(&source);
    let older = place.path().join("older.db");
    let dump = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/panel/testdata/schema-0001.sql");
    let made = rusqlite::Connection::open(&older).unwrap();
    made.pragma_update(None, "foreign_keys", false).unwrap();
    made.execute_batch(&fs::read_to_string(dump).unwrap()).unwrap();
    made.pragma_update(None, "user_version", 1).unwrap();
    drop(made);
    files.insert(run::DATABASE.into(), fs::read(&older).unwrap());
    let data = Folder::open(&place.path().join("data")).unwrap();
    staged(&data, &packed(&files), Before::Discard).unwrap();
    place::finish(&data, &mut |_| {}).unwrap();
    let (names, found) = found(&data);
    assert_eq!((names.len(), found), (1, root));
}

const CUT: &str = "CLUSTERDUCKS_TEST_CUT";
const DATA: &str = "CLUSTERDUCKS_TEST_DATA";

/// Kills this process at the step of this number, as a power cut does.
fn killer(at: usize) -> impl FnMut(&'static str) {
    let mut seen = 0;
    move |step| {
        if seen == at {
            println!("cut before {step}");
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
        seen += 1;
    }
}

/// Does the work of a child of these tests; false in the test itself.
fn is_child(work: impl FnOnce(&Folder, Steps<'_>)) -> bool {
    let Some(at) = std::env::var_os(CUT) else { return false };
    let at = at.to_str().unwrap().parse().unwrap();
    let data = Folder::open(Path::new(&std::env::var_os(DATA).unwrap())).unwrap();
    work(&data, &mut killer(at));
    true
}

/// Runs a test as a child that is killed at a step; whether it was, and not done before.
fn cut(test: &str, data: &Path, at: usize) -> bool {
    #[expect(clippy::disallowed_methods, reason = "the test starts itself, to be killed")]
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child
        .args(["--exact", &format!("restore::tests::{test}"), "--nocapture"])
        .env(CUT, at.to_string())
        .env(DATA, data)
        .stdout(Stdio::null());
    let ended = child.status().unwrap();
    assert!(
        ended.success() || std::os::unix::process::ExitStatusExt::signal(&ended) == Some(9),
        "{ended}"
    );
    !ended.success()
}

fn copy(from: &Folder, to: &Path) -> Folder {
    let files = state(from);
    let to = Folder::open(to).unwrap();
    for (path, bytes) in files {
        let folder = to.path(path.parent().unwrap().to_str().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        io::Write::write_all(&mut Folder::open(&folder).unwrap().create(name).unwrap(), &bytes)
            .unwrap();
    }
    to
}

#[test]
fn a_power_cut_before_a_restore_is_decided_leaves_what_was_there() {
    if is_child(|data, steps| {
        let backup = data.read("backup").unwrap().unwrap();
        let phrase = SecretString::from(PASS_PHRASE);
        stage(data, &backup[..], phrase, NOTHING, Before::Keep, steps).unwrap();
    }) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (source, _) = panel_at(&place.path().join("source"), "Old School");
    let (data, root) = panel_at(&place.path().join("data"), "New School");
    data.write("backup", &backup_of(&source)).unwrap();
    let before = state(&data);
    let test = "a_power_cut_before_a_restore_is_decided_leaves_what_was_there";
    let mut steps = 0;
    while cut(test, &data.path(""), steps) {
        assert!(steps == 0 || state(&data) != before, "nothing had begun at step {steps}");
        place::finish(&data, &mut |_| {}).unwrap();
        assert_eq!(state(&data), before, "cut at step {steps}");
        steps += 1;
    }
    assert_eq!(steps, 3);
    assert_eq!(found(&data).1, root, "it was decided, and is not in force before a start");
    place::finish(&data, &mut |_| {}).unwrap();
    assert_eq!(found(&data).0, ["Old School"]);
}

#[test]
fn a_power_cut_after_a_restore_is_decided_is_made_good_at_the_next_start() {
    if is_child(|data, steps| drop(place::finish(data, steps).unwrap())) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (source, root) = panel_at(&place.path().join("source"), "Old School");
    let (data, _) = panel_at(&place.path().join("data"), "New School");
    let backup = backup_of(&source);
    let test = "a_power_cut_after_a_restore_is_decided_is_made_good_at_the_next_start";
    for before in [Before::Keep, Before::Discard] {
        let ready = copy(&data, &place.path().join(format!("ready-{before:?}")));
        staged(&ready, &backup, before).unwrap();
        let whole = copy(&ready, &place.path().join(format!("whole-{before:?}")));
        place::finish(&whole, &mut |_| {}).unwrap();
        let mut steps = 0;
        loop {
            let trial = copy(&ready, &place.path().join(format!("{before:?}-{steps}")));
            let was_cut = cut(test, &trial.path(""), steps);
            // The power may go again while that is made good.
            if was_cut {
                cut(test, &trial.path(""), 1);
            }
            place::finish(&trial, &mut |_| {}).unwrap();
            assert_eq!(state(&trial), state(&whole), "{before:?}, cut at step {steps}");
            if !was_cut {
                break;
            }
            steps += 1;
        }
        assert!(steps > 16, "{before:?}: {steps} steps were cut");
        println!("{before:?}: cut at each of {steps} steps");
        assert_eq!(found(&whole), (vec!["Old School".to_owned()], root.clone()));
    }
}
