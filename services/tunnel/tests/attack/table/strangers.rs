//! What somebody tries who has no key, or not the one that he needs.

use std::process::Command;

use super::{attack, config, layer};
use crate::{
    Attack, Off,
    field::{Attempt, B, Field, STRANGE, Seen},
};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        attack(
            "root by a server's key",
            |field| comes_in(field, field.ssh_by("root", "/mnt/key-10002", &["--", "true"])),
            vec![
                vec![layer(
                    "root's locked account",
                    Off::Unlocked,
                    Seen::Log("User root not allowed because account is locked"),
                )],
                config(
                    "AllowUsers",
                    &[("AllowUsers join a*", "AllowUsers join a* root")],
                    Seen::Log(
                        "User root from 10.99.2.2 not allowed because not listed in AllowUsers",
                    ),
                ),
                vec![layer(
                    "no key of root's",
                    Off::AnyKey,
                    Seen::Log("refused: user \"root\" has no keys here"),
                )],
                config(
                    "PermitRootLogin",
                    &[("PermitRootLogin no", "PermitRootLogin yes")],
                    Seen::Log("ROOT LOGIN REFUSED FROM 10.99.2.2"),
                ),
            ],
        ),
        attack(
            "A by B's key",
            |field| comes_in(field, field.ssh_by("a10001", "/mnt/key-10002", &["--", "true"])),
            vec![vec![layer(
                "the comparison of keys",
                Off::AnyKey,
                Seen::Log("refused: a10001 offers a key that is not its own"),
            )]],
        ),
        attack(
            "B by a stranger's key",
            |field| comes_in(field, field.ssh_by(B, STRANGE, &["--", "true"])),
            vec![vec![layer(
                "the comparison of keys",
                Off::AnyKey,
                Seen::Log("Failed publickey for a10002"),
            )]],
        ),
        attack(
            "B by a password",
            |field| {
                let mut ssh = field.ssh_by(
                    B,
                    STRANGE,
                    &["-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "--", "true"],
                );
                ssh.env("SSH_ASKPASS", "/mnt/ask").env("SSH_ASKPASS_REQUIRE", "force");
                comes_in(field, ssh)
            },
            vec![
                config(
                    "publickey alone",
                    &[
                        ("AuthenticationMethods publickey", "AuthenticationMethods any"),
                        ("PasswordAuthentication no", "PasswordAuthentication yes"),
                    ],
                    Seen::Log("closed by authenticating user a10002"),
                ),
                vec![layer("no password", Off::Never, Seen::Log("Failed password for a10002"))],
            ],
        ),
        attack(
            "B by nothing",
            |field| {
                comes_in(
                    field,
                    field.ssh_by(
                        B,
                        STRANGE,
                        &["-o", "PreferredAuthentications=none", "--", "true"],
                    ),
                )
            },
            vec![vec![layer(
                "OpenSSH",
                Off::Never,
                Seen::Log("closed by authenticating user a10002"),
            )]],
        ),
        attack(
            "a server that is in no table",
            |field| comes_in(field, field.ssh_by("a10009", STRANGE, &["--", "true"])),
            vec![vec![layer(
                "no such user",
                Off::Never,
                Seen::Log("Invalid user a10009 from 10.99.2.2"),
            )]],
        ),
    ]
}

fn comes_in(field: &Field, command: Command) -> Attempt {
    let tried = field.prints(command, "never");
    Attempt { through: tried.said.contains("Authenticated to "), ..tried }
}
