//! Where programs run that read what a guest wrote (disk images, file systems): as a user that owns nothing, without
//! capabilities, without a network, in a process namespace of its own, with limits on memory, time and file size. What they
//! read and write is lent to them: an opened file as standard input or output, or a device node that is theirs alone.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::cmd::{Cmd, Program};

/// The user and group that such programs run as. It has no name: Debian keeps 65000 to 65533 for itself and gives none of it
/// away (Debian Policy, 9.2.2), and systemd's dynamic users end at 65519.
pub const USER: u32 = 65531;

/// What a program may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Address space.
    pub memory_bytes: u64,
    /// The largest file it may write; the kernel ends it when it writes more.
    pub file_bytes: u64,
    /// How long it may take; absent is for ever.
    pub time: Option<Duration>,
    /// Whether it may reach the network.
    pub network: bool,
}

/// A command that runs `program` in the sandbox.
///
/// Changing the user and the namespaces takes root. The agent is root; without it (simulator, tests) the program runs as the
/// caller, with the limits and without new privileges.
pub fn command(program: Program, limits: &Limits) -> Cmd {
    let mut cmd = Cmd::new(Program::Prlimit)
        .arg(format!("--as={}", limits.memory_bytes))
        .arg(format!("--fsize={}", limits.file_bytes))
        .args(["--core=0", "--nofile=256"]);
    if rustix::process::geteuid().is_root() {
        cmd = cmd.args([Program::Unshare.path(), "--ipc", "--uts", "--mount", "--pid", "--fork"]);
        cmd = cmd.arg("--kill-child").args((!limits.network).then_some("--net"));
    }
    cmd = cmd.arg(Program::Setpriv.path());
    if rustix::process::geteuid().is_root() {
        cmd = cmd.args([format!("--reuid={USER}"), format!("--regid={USER}")]).args([
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
        ]);
    }
    cmd = cmd.args(["--no-new-privs", program.path()]);
    match limits.time {
        Some(time) => cmd.timeout(time),
        None => cmd.unlimited(),
    }
}

/// A file or a block device, made readable (or writable) for a sandboxed program; taken back when dropped.
#[derive(Debug)]
pub struct Lent {
    path: PathBuf,
    node: bool,
    input: Option<File>,
}

/// Whether what is lent may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Read and written.
    Write,
}

/// Folder of lent device nodes; `/dev` is the one place where the system lets device nodes work.
const NODES: &str = "/dev/clusterducks";

impl Lent {
    /// Lends a block device by a node of its own, or a file by its path.
    ///
    /// A regular file is opened here and given as standard input: the sandbox needs no way through the folders above it, but
    /// everybody has to be allowed to read the file itself.
    ///
    /// # Errors
    /// It can't be opened, or the node can't be made.
    pub fn new(path: &Path, access: Access) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let metadata = fs::metadata(&path)?;
        if metadata.file_type().is_block_device() && rustix::process::geteuid().is_root() {
            return Self::node(metadata.rdev(), access);
        }
        match access {
            Access::Read => {
                let input = Some(File::open(&path)?);
                Ok(Self { path: PathBuf::from("/dev/stdin"), node: false, input })
            }
            Access::Write => Ok(Self { path, node: false, input: None }),
        }
    }

    fn node(device: u64, access: Access) -> io::Result<Self> {
        let folder = Path::new(NODES);
        match DirBuilder::new().mode(0o711).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(folder, Permissions::from_mode(0o711))?,
        }
        let (kind, mode) = match access {
            Access::Read => ("read", 0o400),
            Access::Write => ("write", 0o600),
        };
        let path = folder.join(format!("{kind}-{device:x}"));
        crate::files::remove_if_exists(&path).map_err(|error| error.source)?;
        mknodat(CWD, &path, FileType::BlockDevice, Mode::empty(), device)?;
        let lent = Self { path, node: true, input: None };
        chown(&lent.path, Some(USER), Some(USER))?;
        fs::set_permissions(&lent.path, Permissions::from_mode(mode))?;
        Ok(lent)
    }

    /// The path by which the program finds it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the command what it needs to find it.
    ///
    /// # Errors
    /// The opened file can't be duplicated.
    pub fn attach(&self, cmd: Cmd) -> io::Result<Cmd> {
        Ok(match &self.input {
            Some(file) => cmd.stdin_file(file.try_clone()?),
            None => cmd,
        })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.node
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "can't take a device node back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory_bytes: 256 << 20,
        file_bytes: 1 << 20,
        time: Some(Duration::from_secs(20)),
        network: false,
    };

    /// `setpriv` inside the sandbox runs what the test wants to see from there.
    async fn inside(script: &str) -> Result<String, crate::cmd::Error> {
        command(Program::Setpriv, &LIMITS).args(["sh", "-c", script]).run().await
    }

    #[tokio::test]
    async fn nothing_inside_can_gain_privileges_or_use_more_than_the_limits() {
        let status = inside("cat /proc/self/status; ulimit -v; ulimit -f").await.unwrap();
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(status.ends_with("262144\n2048\n"), "{status}");
        if rustix::process::geteuid().is_root() {
            assert!(status.contains("Uid:\t65531\t65531\t65531\t65531"), "{status}");
            assert!(status.contains("Groups:\t \n"), "{status}");
            for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set} in {status}");
            }
            let links = inside("cat /proc/net/dev").await.unwrap();
            assert!(
                !links.lines().any(|line| line.contains("eth") || line.contains("ens")),
                "{links}"
            );
        }
    }

    #[tokio::test]
    async fn a_file_that_grows_too_large_ends_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("out")).unwrap();
        let flood = command(Program::Setpriv, &LIMITS).args(["cat", "/dev/zero"]).stdout_file(file);
        assert!(matches!(flood.run().await.unwrap_err(), crate::cmd::Error::Status { .. }));
        assert_eq!(fs::metadata(folder.path().join("out")).unwrap().len(), 1 << 20);
    }

    #[tokio::test]
    async fn a_lent_file_is_read_although_its_folder_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        crate::files::write_atomic(&path, b"content", 0o644).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let lent = Lent::new(&path, Access::Read).unwrap();
        let cat = command(Program::Setpriv, &LIMITS).arg("cat").arg(lent.path());
        assert_eq!(lent.attach(cat).unwrap().run().await.unwrap(), "content");
    }
}
