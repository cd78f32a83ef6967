//! What sshd(8) is told of a key that somebody offers: the line of an authorized_keys file that lets it in, or nothing. It runs twice
//! for each connection, as a user of its own, and reads one file: `<run>/keys/<user>`, which is there while the server stands in
//! the table in force.

use std::{io, path::Path};

use host::files;
use model::tunnel::{ForwardPort, JOIN_USER, SshKey, SshKeyError};
use openssh_keys::PublicKey;

use crate::{folders::Folders, refusal::quoted, ssh};

/// Why a key is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No such user has keys.
    #[error("user {} has no keys here", quoted(user))]
    User {
        /// The name.
        user: String,
    },
    /// It is no key that anybody could come in with.
    #[error("{} offers a key of the kind {}, which is none", quoted(user), quoted(kind))]
    Form {
        /// Who offers it.
        user: String,
        /// The kind that it is said to be of.
        kind: String,
        /// What is wrong.
        source: SshKeyError,
    },
    /// It does not hold what its kind says.
    #[error("{} offers a key that can't be read", quoted(user))]
    Content {
        /// Who offers it.
        user: String,
        /// What is wrong.
        source: openssh_keys::errors::OpenSSHKeyError,
    },
    /// The server is not in the table in force.
    #[error("{user} may not come in, or no longer")]
    Absent {
        /// Its user.
        user: String,
    },
    /// It is not the server's key.
    #[error("{user} offers a key that is not its own")]
    Other {
        /// Its user.
        user: String,
    },
    /// What is its own is not known.
    #[error("the key of {user} can't be looked up")]
    File {
        /// Its user.
        user: String,
        /// Why.
        source: files::Error,
    },
}

/// The line for a user and the key that is offered, as sshd_config(5) gives them: `%u`, `%t` and `%k`.
///
/// # Errors
/// The key is not let in.
pub fn line(run: &Path, user: &str, kind: &str, key: &str) -> Result<String, Refused> {
    let name = || user.to_owned();
    let port = ForwardPort::of_user(user);
    if port.is_none() && user != JOIN_USER {
        return Err(Refused::User { user: name() });
    }
    let offered: SshKey = format!("{kind} {key}").parse().map_err(|source| Refused::Form {
        user: name(),
        kind: kind.to_owned(),
        source,
    })?;
    let content = |source| Refused::Content { user: name(), source };
    let parsed = PublicKey::parse(offered.as_str()).map_err(content)?;
    let Some(port) = port else {
        return Ok(format!("restrict,command=\"{}\" {offered}", ssh::RELAY));
    };
    let path = Folders::key_of(run, port);
    let there = files::read_if_exists(&path)
        .map_err(|source| Refused::File { user: name(), source })?
        .ok_or_else(|| Refused::Absent { user: name() })?;
    let own = std::str::from_utf8(&there).ok().and_then(|text| PublicKey::parse(text).ok());
    if own.is_none_or(|own| own.data() != parsed.data()) {
        return Err(Refused::Other { user: name() });
    }
    let options = format!(
        "restrict,port-forwarding,permitlisten=\"127.0.0.1:{port}\",command=\"{}\"",
        ssh::NOTHING
    );
    Ok(format!("{options} {offered}"))
}

/// Prints the line, if there is one.
///
/// # Errors
/// Standard output can't be written.
pub fn print(
    out: &mut impl io::Write,
    run: &Path,
    user: &str,
    kind: &str,
    key: &str,
) -> io::Result<()> {
    match line(run, user, kind, key) {
        Ok(line) => writeln!(out, "{line}"),
        Err(refused) => {
            crate::refusal::tell(&format!("refused: {refused}"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS";
    const OTHER: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJUMhq3ExFwyiSHcxOVGWTsNjB1nMRMDBsMuUuZKvjmL";

    fn run() -> tempfile::TempDir {
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join("keys")).unwrap();
        let path = run.path().join("keys/a10007");
        files::write_atomic(&path, format!("ssh-ed25519 {KEY}").as_bytes(), 0o644).unwrap();
        run
    }

    #[test]
    fn a_server_gets_its_one_port_and_nothing_else() {
        assert_eq!(
            line(run().path(), "a10007", "ssh-ed25519", KEY).unwrap(),
            format!(
                "restrict,port-forwarding,permitlisten=\"127.0.0.1:10007\",command=\"/usr/bin/false\" ssh-ed25519 {KEY}"
            )
        );
    }

    #[test]
    fn whoever_joins_gets_the_relay_whatever_the_key() {
        for key in [KEY, OTHER] {
            assert_eq!(
                line(run().path(), "join", "ssh-ed25519", key).unwrap(),
                format!(
                    "restrict,command=\"/usr/bin/clusterducks-tunnel relay\" ssh-ed25519 {key}"
                )
            );
        }
    }

    #[test]
    fn odd_names_of_users_are_nobody_s() {
        let long = "a".repeat(300);
        for user in [
            "root",
            "a10007/../a10007",
            "../a10007",
            "-x",
            "",
            &long,
            "a10007\n",
            "\na10007",
            "A10007",
            "a010007",
            "a10007 ",
            "a9999",
            "a60000",
            "JOIN",
            "join\0",
            "clusterducks-tunnel",
            "a１０００７",
        ] {
            let refused = line(run().path(), user, "ssh-ed25519", KEY).unwrap_err();
            assert!(matches!(refused, Refused::User { .. }), "{user:?}: {refused}");
            assert!(!refused.to_string().contains('\n'));
        }
    }

    #[test]
    fn only_the_server_s_own_key_lets_it_in() {
        let run = run();
        let refused =
            |user: &str, kind: &str, key: &str| line(run.path(), user, kind, key).unwrap_err();
        assert!(matches!(refused("a10007", "ssh-ed25519", OTHER), Refused::Other { .. }));
        assert!(matches!(refused("a10008", "ssh-ed25519", KEY), Refused::Absent { .. }));
        for (kind, key) in [
            ("ssh-rsa", KEY),
            ("ssh-ed25519-cert-v01@openssh.com", KEY),
            ("ssh-ed25519", "AAAA\" ssh-ed25519 AAAA"),
            ("ssh-ed25519", ""),
            ("", ""),
            ("restrict ssh-ed25519", KEY),
        ] {
            assert!(matches!(refused("a10007", kind, key), Refused::Form { .. }), "{kind} {key}");
            assert!(matches!(refused("join", kind, key), Refused::Form { .. }), "{kind} {key}");
        }
        for (kind, key) in [("ssh-ed25519", "AAAA"), ("ecdsa-sha2-nistp256", KEY)] {
            assert!(
                matches!(refused("a10007", kind, key), Refused::Content { .. }),
                "{kind} {key}"
            );
        }
    }

    #[test]
    fn a_key_that_can_t_be_read_lets_nobody_in() {
        let run = run();
        std::fs::create_dir(run.path().join("keys/a10008")).unwrap();
        let refused = line(run.path(), "a10008", "ssh-ed25519", KEY).unwrap_err();
        assert!(matches!(refused, Refused::File { .. }), "{refused}");
        let broken = run.path().join("keys/a10009");
        files::write_atomic(&broken, b"\xff", 0o644).unwrap();
        let refused = line(run.path(), "a10009", "ssh-ed25519", KEY).unwrap_err();
        assert!(matches!(refused, Refused::Other { .. }), "{refused}");
    }
}
