//! LIO for real. These tests change the kernel they run on, so they run in a throw-away guest alone, as root, with configfs
//! mounted, `brd` and LIO's modules loaded, and libiscsi's tools: `lio --ignored --test-threads=1`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddrV4,
    os::unix::fs::symlink,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use host::lio::{Configfs, Error, Kind, Lio, Tree};
use model::{
    boot::{Backing, Chap, Export, Secret},
    name::Iqn,
};

const CONFIGFS: &str = "/sys/kernel/config";
const FOLDER: &str = "/dev/zvol/tank/clusterducks/devices";

/// Counts changes, and fails from one of them on as a killed agent would.
struct Cut {
    inner: Configfs,
    changes: Cell<u32>,
    last: u32,
}

impl Cut {
    fn after(last: u32) -> Self {
        Self { inner: Configfs::new(CONFIGFS), changes: Cell::new(0), last }
    }

    fn change<V>(&self, act: impl FnOnce() -> io::Result<V>) -> io::Result<V> {
        if self.changes.get() >= self.last {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.changes.set(self.changes.get() + 1);
        act()
    }
}

impl Tree for &Cut {
    fn read(&self, path: &str) -> io::Result<String> {
        self.inner.read(path)
    }
    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        self.change(|| self.inner.write(path, value))
    }
    fn list(&self, path: &str) -> io::Result<Vec<(String, Kind)>> {
        self.inner.list(path)
    }
    fn resolve(&self, path: &str) -> io::Result<String> {
        self.inner.resolve(path)
    }
    fn make(&self, path: &str) -> io::Result<()> {
        match self.inner.list(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.change(|| self.inner.make(path)),
        }
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        match self.inner.list(path) {
            Ok(_) => self.change(|| self.inner.remove(path)),
            Err(error) => Err(error),
        }
    }
    fn link(&self, path: &str, to: &str) -> io::Result<()> {
        self.change(|| self.inner.link(path, to))
    }
    fn unlink(&self, path: &str) -> io::Result<()> {
        self.change(|| self.inner.unlink(path))
    }
    fn hide(&self, path: &str) -> io::Result<()> {
        self.change(|| self.inner.hide(path))
    }
}

fn lio() -> Lio {
    Lio::new(CONFIGFS)
}

/// RAM disks under the names that zvols have.
fn disks() {
    fs::create_dir_all(FOLDER).unwrap();
    for (name, disk) in [("a", "ram0"), ("b", "ram1"), ("c@g1", "ram2")] {
        let path = format!("{FOLDER}/{name}");
        if fs::symlink_metadata(&path).is_err() {
            symlink(format!("/dev/{disk}"), path).unwrap();
        }
    }
}

fn chap(salt: &str) -> Chap {
    Chap {
        user: format!("user-{salt}"),
        password: Secret::new(format!("password{salt:0>8}")),
        target_user: format!("target-{salt}"),
        target_password: Secret::new(format!("mutual-p{salt:0>8}")),
    }
}

fn initiator(name: &str) -> Iqn {
    Iqn::initiator(&name.parse().unwrap())
}

fn writable(name: &str) -> Export {
    Export {
        target: Iqn::device(&name.parse().unwrap()),
        backing: Backing::Zvol(format!("tank/clusterducks/devices/{name}").parse().unwrap()),
        serial: format!("cd000000000000000{name}"),
        acls: BTreeMap::from([(initiator("pc-01"), Arc::new(chap("1")))]),
    }
}

fn shared() -> Export {
    Export {
        target: Iqn::generation(&"lab".parse().unwrap(), 1),
        backing: Backing::Snapshot("tank/clusterducks/devices/c@g1".parse().unwrap()),
        serial: "cd000000000000000c".to_owned(),
        acls: ["1", "2"].map(|n| (initiator(&format!("pc-0{n}")), Arc::new(chap(n)))).into(),
    }
}

fn portals() -> BTreeSet<SocketAddrV4> {
    BTreeSet::from(["127.0.0.1:3260".parse().unwrap()])
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test starts an initiator, which is no program of the agent"
)]
fn command(program: &str, export: &Export, who: &str, chap: &Chap) -> Command {
    let mut command = Command::new(program);
    let url = format!(
        "iscsi://{}%{}@127.0.0.1:3260/{}/0?target_user={}&target_password={}",
        chap.user,
        chap.password.reveal(),
        export.target,
        chap.target_user,
        chap.target_password.reveal(),
    );
    command.args(["-i", initiator(who).as_str()]).arg(url).stdin(Stdio::null());
    command
}

fn inquiry(export: &Export, who: &str, chap: &Chap) -> Output {
    command("iscsi-inq", export, who, chap).output().unwrap()
}

/// An initiator that keeps reading.
struct Reader(Child);

impl Reader {
    fn start(export: &Export, who: &str, chap: &Chap) -> Self {
        let mut command = command("iscsi-perf", export, who, chap);
        let reader = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let want = initiator(who);
        wait_until(&format!("a session of {want}"), || session(&export.target, &want));
        reader
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn session(target: &Iqn, who: &Iqn) -> bool {
    lio().observe().unwrap().get(target).is_some_and(|target| target.sessions.contains_key(who))
}

fn session_number(target: &Iqn, who: &Iqn) -> String {
    let path = format!("{CONFIGFS}/target/iscsi/{target}/tpgt_1/acls/{who}/info");
    let info = fs::read_to_string(path).unwrap();
    info.lines().find(|line| line.starts_with("LIO Session ID")).unwrap().to_owned()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "no {what} within 20 s");
        std::thread::yield_now();
    }
}

fn clear() {
    disks();
    for target in lio().observe().unwrap().into_keys() {
        lio().unexport(&target).unwrap();
    }
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn an_export_reads_back_as_asked_and_the_second_time_nothing_is_changed() {
    clear();
    for export in [writable("a"), shared()] {
        lio().export(&export, &portals()).unwrap();
        let seen = lio().observe().unwrap().remove(&export.target).unwrap();
        assert_eq!(seen.export.as_ref(), Some(&export));
        assert_eq!((seen.portals, seen.sessions), (portals(), BTreeMap::new()));
        Lio::with_tree(&Cut::after(0)).export(&export, &portals()).unwrap();
    }
    clear();
    assert_eq!(lio().observe().unwrap(), BTreeMap::new());
    assert_eq!(
        fs::read_dir(format!("{CONFIGFS}/target/core/iblock_2601"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir())
            .count(),
        0
    );
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn an_export_cut_off_after_any_change_is_not_whole_and_the_next_run_finishes_it() {
    clear();
    let export = shared();
    for last in 0.. {
        let cut = Cut::after(last);
        let result = Lio::with_tree(&cut).export(&export, &portals());
        let seen = lio().observe().unwrap();
        if result.is_ok() {
            assert!(last > 20, "an export is more than {last} changes");
            break;
        }
        let whole = seen.get(&export.target).and_then(|target| target.export.clone());
        assert!(whole.is_none(), "whole after {last} changes");
        lio().export(&export, &portals()).unwrap();
        let seen = lio().observe().unwrap().remove(&export.target).unwrap();
        assert_eq!(seen.export.as_ref(), Some(&export), "after {last} changes");
        lio().unexport(&export.target).unwrap();
    }
    clear();
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn a_tear_down_cut_off_after_any_change_shows_and_the_next_run_finishes_it() {
    clear();
    let export = shared();
    for last in 0.. {
        lio().export(&export, &portals()).unwrap();
        let cut = Cut::after(last);
        match Lio::with_tree(&cut).unexport(&export.target) {
            Ok(()) => {
                assert!(last > 10, "a tear-down is more than {last} changes");
                break;
            }
            Err(Error::TearDown { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        assert!(lio().observe().unwrap().contains_key(&export.target), "hidden after {last}");
        lio().unexport(&export.target).unwrap();
        assert_eq!(lio().observe().unwrap(), BTreeMap::new());
    }
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn a_login_needs_the_right_secrets_and_the_right_initiator() {
    clear();
    let export = shared();
    lio().export(&export, &portals()).unwrap();
    let right = inquiry(&export, "pc-01", &chap("1"));
    assert!(right.status.success(), "{right:?}");
    let wrong_password = Chap { password: Secret::new("wrong-password"), ..chap("1") };
    let wrong_mutual = Chap { target_password: Secret::new("wrong-mutual12"), ..chap("1") };
    for (who, chap) in [
        ("pc-01", wrong_password),
        ("pc-01", wrong_mutual),
        ("pc-01", chap("2")),
        ("pc-03", chap("1")),
    ] {
        let refused = inquiry(&export, who, &chap);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        println!("{who}: {}", said.trim());
        assert!(!refused.status.success(), "{who} {chap:?}: {refused:?}");
    }
    clear();
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn an_acl_that_stays_keeps_its_session_and_new_secrets_end_the_old_session() {
    clear();
    let mut export = shared();
    lio().export(&export, &portals()).unwrap();
    let (one, two) = (initiator("pc-01"), initiator("pc-02"));
    let _one = Reader::start(&export, "pc-01", &chap("1"));
    let _two = Reader::start(&export, "pc-02", &chap("2"));
    let before = session_number(&export.target, &one);
    let new = ["2", "3"].map(|n| (initiator(&format!("pc-0{n}")), Arc::new(chap(&n.repeat(2)))));
    export.acls.extend(new.clone());
    lio().set_acls(&export.target, &new.into(), &BTreeSet::new()).unwrap();
    assert!(!session(&export.target, &two));
    assert_eq!(session_number(&export.target, &one), before);
    let _again = Reader::start(&export, "pc-02", &chap("22"));
    assert_eq!(session_number(&export.target, &one), before);
    assert_eq!(
        lio().observe().unwrap().remove(&export.target).unwrap().export,
        Some(export.clone())
    );
    let number = session_number(&export.target, &two);
    let same = BTreeMap::from([(two.clone(), Arc::new(chap("22")))]);
    lio().set_acls(&export.target, &same, &BTreeSet::new()).unwrap();
    assert_eq!(session_number(&export.target, &two), number, "the second time nothing is done");
    lio().set_acls(&export.target, &BTreeMap::new(), &BTreeSet::from([two])).unwrap();
    assert_eq!(session_number(&export.target, &one), before);
    assert_eq!(
        lio().observe().unwrap().remove(&export.target).unwrap().sessions,
        BTreeMap::from([(one, Some(std::net::Ipv4Addr::LOCALHOST))])
    );
    clear();
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn a_target_comes_down_under_a_live_session() {
    clear();
    let export = writable("a");
    lio().export(&export, &portals()).unwrap();
    let _reader = Reader::start(&export, "pc-01", &chap("1"));
    let start = Instant::now();
    lio().unexport(&export.target).unwrap();
    println!("unexport under a reading session: {:?}", start.elapsed());
    assert_eq!(lio().observe().unwrap(), BTreeMap::new());
    // The device is free again.
    fs::OpenOptions::new().write(true).open("/dev/ram0").unwrap();
    lio().export(&export, &portals()).unwrap();
    clear();
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn what_is_not_ours_is_left_alone() {
    clear();
    let foreign = format!("{CONFIGFS}/target/iscsi/iqn.2003-01.org.example:other/tpgt_1");
    fs::create_dir_all(&foreign).unwrap();
    let other = format!("{CONFIGFS}/target/core/iblock_0/generation.lab.g1");
    fs::create_dir_all(&other).unwrap();
    let export = shared();
    lio().export(&export, &portals()).unwrap();
    assert_eq!(lio().observe().unwrap().len(), 1);
    lio().unexport(&export.target).unwrap();
    let name: Iqn = "iqn.2003-01.org.example:other".parse().unwrap();
    assert!(matches!(lio().unexport(&name), Err(Error::NotOurs(iqn)) if iqn == name));
    assert!(fs::metadata(&foreign).is_ok() && fs::metadata(&other).is_ok());
    for path in [&*foreign, foreign.trim_end_matches("/tpgt_1"), &*other] {
        fs::remove_dir(path).unwrap();
    }
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn somebody_elses_hand_in_our_target_shows_and_is_undone() {
    clear();
    let export = shared();
    let group = format!("{CONFIGFS}/target/iscsi/{}/tpgt_1", export.target);
    let acl = format!("{group}/acls/{}", initiator("pc-01"));
    // `Configfs` looks under `target`, so that is a link to where the tests write.
    let folder = tempfile::tempdir().unwrap();
    symlink("/", folder.path().join("target")).unwrap();
    let put = |path: String, value: &str| Configfs::new(folder.path()).write(&path, value).unwrap();
    let hands: [&dyn Fn(); 7] = [
        &|| put(format!("{group}/attrib/generate_node_acls"), "1"),
        &|| put(format!("{group}/attrib/authentication"), "0"),
        &|| put(format!("{group}/enable"), "0"),
        &|| put(format!("{acl}/auth/userid_mutual"), "NULL"),
        &|| fs::create_dir(format!("{group}/lun/lun_1")).unwrap(),
        &|| fs::create_dir(format!("{group}/acls/iqn.2003-01.org.example:host")).unwrap(),
        &|| {
            put(
                format!("{CONFIGFS}/target/core/iblock_2601/generation.lab.g1/attrib/emulate_pr"),
                "1",
            )
        },
    ];
    for (number, hand) in hands.iter().enumerate() {
        lio().export(&export, &portals()).unwrap();
        hand();
        let seen = lio().observe().unwrap().remove(&export.target).unwrap();
        assert_ne!(seen.export.as_ref(), Some(&export), "hand {number}");
        lio().export(&export, &portals()).unwrap();
        let seen = lio().observe().unwrap().remove(&export.target).unwrap();
        assert_eq!(seen.export.as_ref(), Some(&export), "hand {number}");
    }
    clear();
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn secrets_that_the_kernel_would_bend_are_refused_before_anything_is_made() {
    clear();
    for bad in ["NULLxxxxxxxxx", "", "with space12345"] {
        let mut export = writable("a");
        export
            .acls
            .insert(initiator("pc-01"), Arc::new(Chap { password: Secret::new(bad), ..chap("1") }));
        let error = lio().export(&export, &portals()).unwrap_err();
        assert!(matches!(error, Error::Chap(who) if who == initiator("pc-01")));
        assert_eq!(lio().observe().unwrap(), BTreeMap::new());
    }
}

#[test]
#[ignore = "needs LIO: runs in a guest"]
fn figures() {
    clear();
    let (keep, export) = (shared(), writable("a"));
    lio().export(&keep, &portals()).unwrap();
    let mut times: Vec<[Duration; 3]> = (0..100)
        .map(|_| {
            let start = Instant::now();
            lio().export(&export, &portals()).unwrap();
            let made = start.elapsed();
            lio().observe().unwrap();
            let seen = start.elapsed();
            lio().unexport(&export.target).unwrap();
            [made, seen - made, start.elapsed() - seen]
        })
        .collect();
    for (column, name) in ["export", "observe of 2", "unexport"].iter().enumerate() {
        times.sort_by_key(|row| row[column]);
        println!("{name}: median {:?}, worst {:?}", times[50][column], times[99][column]);
    }
    clear();
}
