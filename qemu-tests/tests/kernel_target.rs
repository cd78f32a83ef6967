//! The tests of `host::lio` change the kernel that they run on: they are run on an agent's.

use anyhow::{Context, Result, ensure};
use qemu_tests::{Lan, run_tool, secs, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// An initiator that needs no kernel (Debian's libiscsi-bin).
const INITIATORS: [&str; 2] = ["/usr/bin/iscsi-inq", "/usr/bin/iscsi-perf"];
/// What belongs to the C library, of which the agent's own is used.
const C_LIBRARY: [&str; 4] = ["libc.so", "libm.so", "libpthread.so", "libdl.so"];

/// The tests' program; built where `make unit` has not built it yet, with the same features.
fn test_program() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut args = vec!["test", "--quiet", "--locked", "--no-run", "--message-format=json"];
    args.extend(["--manifest-path", manifest, "--workspace", "--exclude", "qemu-tests"]);
    args.extend(["--test", "lio"]);
    let messages = run_tool(&cargo, &args)?;
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_ours = message.pointer("/target/name")? == "lio";
        is_ours.then_some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    program.context("cargo names no program of the tests")
}

/// The libraries that a program needs besides the C library.
fn libraries(program: &str) -> Result<BTreeSet<String>> {
    let listing = run_tool("ldd", &[program])?;
    let paths = listing.lines().filter_map(|line| line.split_once(" => ")?.1.split(' ').next());
    let foreign = |path: &&str| !C_LIBRARY.iter().any(|name| path.contains(name));
    Ok(paths.filter(foreign).map(str::to_owned).collect())
}

/// A file system with all that the tests need in its root.
fn pack(folder: &Path) -> Result<PathBuf> {
    let (own, disk) = (folder.join("own"), folder.join("lio.squashfs"));
    std::fs::create_dir(&own)?;
    std::fs::copy(test_program()?, own.join("lio"))?;
    for program in INITIATORS {
        for file in libraries(program)?.into_iter().chain([program.to_owned()]) {
            let name = Path::new(&file).file_name().context("a program is a file")?.to_owned();
            std::fs::copy(&file, own.join(name))?;
        }
    }
    let args = [own.as_os_str(), disk.as_os_str(), "-quiet".as_ref(), "-no-progress".as_ref()];
    run_tool("mksquashfs", &args)?;
    Ok(disk)
}

#[tokio::test]
async fn every_test_of_the_kernels_target_passes_on_an_agent() -> Result<()> {
    let lan = Lan::new("lio")?;
    let disk = pack(lan.workspace().path())?;
    let mut agent = lan.restore_agent().await?;
    agent.plug_read_only_disk(&disk, "lio").await?;
    let shell = agent.debug();
    shell.check("systemctl stop clusterducks-agent && modprobe brd rd_nr=3 rd_size=16384").await?;
    let disk = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_lio";
    wait_until("the agent to see the disk", secs(10), async || {
        Ok(shell.exec(&format!("test -e {disk}")).await?.success().then_some(()))
    })
    .await?;
    shell.check(&format!("mkdir /tmp/lio && mount -t squashfs {disk} /tmp/lio")).await?;
    let run =
        "cd /tmp/lio && PATH=$PWD:$PATH LD_LIBRARY_PATH=$PWD ./lio --ignored --test-threads=1";
    let output = shell.exec_within(run, secs(120)).await?;
    let outcomes: Vec<&str> =
        output.stdout.lines().filter(|line| line.starts_with("test ")).collect();
    outcomes.iter().for_each(|outcome| println!("{outcome}"));
    ensure!(output.success(), "{}", output.stdout);
    let passed = outcomes.iter().filter(|outcome| outcome.ends_with(" ... ok")).count();
    let ended = format!("test result: ok. {passed} passed; 0 failed; 0 ignored;");
    ensure!(
        passed > 0 && outcomes.iter().any(|line| line.starts_with(&ended)),
        "{}",
        output.stdout
    );
    lan.passed()
}
