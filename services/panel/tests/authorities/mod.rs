//! What the tests of certificates begin with: authorities made at a fixed time, certificates of every kind, a folder, openssl(1).

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use panel::ca::{Algorithm, Authority, Ca, Host, Issued, Key, Subject};

/// 2026-11-19 01:46:40 UTC.
pub(crate) const NOW: u64 = 1_795_052_800;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

pub(crate) fn host(text: &str) -> Host {
    Host::try_from(text.to_owned()).unwrap()
}

pub(crate) struct Fleet {
    pub root: Authority,
    pub ca: Ca,
    pub folder: tempfile::TempDir,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub issued: Issued,
    pub key: Key,
}

impl Fleet {
    pub(crate) fn found() -> Self {
        Self::for_hosts(&[host("panel.school.example"), host("192.0.2.7")])
    }

    pub(crate) fn for_hosts(hosts: &[Host]) -> Self {
        let root = Authority::root(now()).unwrap();
        let issuing = root.issuing(hosts, now()).unwrap();
        let boot = Authority::boot(now()).unwrap();
        let ca = Ca::new(root.certificate().clone(), issuing, boot).unwrap();
        let fleet = Self { root, ca, folder: tempfile::tempdir().unwrap() };
        fleet.file("root.pem", fleet.ca.root().pem());
        fleet.file("issuing.pem", fleet.ca.issuing().certificate().pem());
        fleet.file("boot.pem", fleet.ca.boot().certificate().pem());
        fleet
    }

    pub(crate) fn issue(&self, subject: &Subject, algorithm: Algorithm) -> Identity {
        self.issue_at(subject, algorithm, now())
    }

    pub(crate) fn issue_at(
        &self,
        subject: &Subject,
        algorithm: Algorithm,
        at: SystemTime,
    ) -> Identity {
        let key = Key::generate(algorithm).unwrap();
        Identity { issued: self.ca.issue(subject, &key.public(), at).unwrap(), key }
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        File::create(&path).unwrap().write_all(content.as_ref()).unwrap();
        path
    }

    /// Runs openssl(1) in the folder.
    pub(crate) fn openssl(&self, arguments: &str) -> Output {
        openssl_command(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// What openssl(1) prints when all is well.
    pub(crate) fn shown(&self, arguments: &str) -> String {
        let output = self.openssl(arguments);
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What openssl(1) says when it refuses.
    pub(crate) fn refused(&self, arguments: &str) -> String {
        let output = self.openssl(arguments);
        assert!(!output.status.success(), "openssl {arguments}: {output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own tool, not the machine's")]
pub(crate) fn openssl_command(arguments: &str) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).env_clear().env("PATH", "/usr/bin:/bin");
    command
}
