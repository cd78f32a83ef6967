//! What a box tries that says to join.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use std::{path::Path, time::Duration};

use super::{attack, chain, config, key_option, layer, no_terminal, sftp, shut_in};
use crate::{
    Attack, Off,
    field::{Attempt, Field, Seen, is_open},
    ground::wait_until,
};

pub(super) fn attacks() -> Vec<Attack> {
    let refused = || {
        Seen::Log(
            "refused to join from \"10.99.2.2\": whoever joins may not ask for \"echo g''ot\"",
        )
    };
    let forced = || {
        vec![
            layer(
                "ForceCommand",
                Off::Config(&[("    ForceCommand /usr/bin/clusterducks-tunnel relay\n", "")]),
                refused(),
            ),
            layer("the key's command", Off::Key(",command=\"[^\"]*\"", ""), refused()),
        ]
    };
    let disabled = || Seen::Client("Server has disabled port forwarding");
    let no_stream = || Seen::Log("refused local port forward");
    vec![
        attack(
            "join: a command",
            |field| field.prints(field.ssh("join", &["--", "echo g''ot"]), "got\n"),
            vec![forced()],
        ),
        attack(
            "join: subsystem sftp",
            |field| sftp(field, "join"),
            vec![
                config(
                    "no subsystem",
                    &[(
                        "PermitTTY no\nPermit",
                        "PermitTTY no\nSubsystem sftp internal-sftp\nPermit",
                    )],
                    Seen::Log(
                        "subsystem request for sftp by user join failed, subsystem not found",
                    ),
                ),
                vec![
                    layer(
                        "ForceCommand",
                        Off::Config(&[(
                            "    ForceCommand /usr/bin/clusterducks-tunnel relay\n",
                            "",
                        )]),
                        Seen::Log("may not ask for \"internal-sftp\""),
                    ),
                    layer(
                        "the key's command",
                        Off::Key(",command=\"[^\"]*\"", ""),
                        Seen::Log("may not ask for \"internal-sftp\""),
                    ),
                ],
            ],
        ),
        attack(
            "join: a second session",
            two_sessions,
            vec![config(
                "MaxSessions",
                &[("    MaxSessions 1\n", "    MaxSessions 10\n")],
                Seen::Log("no more sessions"),
            )],
        ),
        attack(
            "join: a terminal",
            |field| {
                let asked = field.prints(field.ssh("join", &["-tt"]), "never");
                Attempt { through: !asked.said.contains("PTY allocation request failed"), ..asked }
            },
            vec![
                config("PermitTTY", &[("PermitTTY no", "PermitTTY yes")], no_terminal()),
                key_option("the key's restrict", "restrict,pty", no_terminal()),
            ],
        ),
        attack(
            "join: -R",
            |field| {
                field.remote("join", "127.0.0.1:10005:127.0.0.1:9", || is_open("127.0.0.1:10005"))
            },
            vec![
                config("DisableForwarding", &[("    DisableForwarding yes\n", "")], disabled()),
                config("AllowTcpForwarding", &[("    AllowTcpForwarding no\n", "")], disabled()),
                key_option("the key's restrict", "restrict,port-forwarding", disabled()),
            ],
        ),
        attack(
            "join: -L",
            |field| field.local("join", "10.99.3.2:80"),
            vec![
                config("DisableForwarding", &[("    DisableForwarding yes\n", "")], no_stream()),
                config(
                    "AllowTcpForwarding",
                    &[("    AllowTcpForwarding no\n", "    AllowTcpForwarding yes\n")],
                    no_stream(),
                ),
                key_option("the key's restrict", "restrict,port-forwarding", no_stream()),
                config(
                    "PermitOpen",
                    &[("PermitOpen none", "PermitOpen any")],
                    Seen::Log("but the request was denied"),
                ),
                chain("the chain that shuts boxes in", shut_in),
            ],
        ),
        attack(
            "join: half a mebibyte and more",
            |field| field.answers(field.ssh("join", &[]), &vec![7; 600 << 10], b"never"),
            vec![vec![layer(
                "the relay",
                Off::Never,
                Seen::Log("refused to join from \"10.99.2.2\": more than 524288 bytes"),
            )]],
        ),
    ]
}

/// A second session on the connection of a first one.
fn two_sessions(field: &Field) -> Attempt {
    let shared = Path::new("/mnt/master");
    host::files::remove_if_exists(shared).unwrap();
    let _first = field.session("join", &["-M", "-S", "/mnt/master"]);
    wait_until("a connection that can be shared", Duration::from_secs(20), || {
        shared.exists().then_some(())
    });
    let second = field.prints(field.ssh("join", &["-S", "/mnt/master", "--", "true"]), "never");
    // It would be refused like any first one, and is told so; a client that may not have it comes by another connection.
    let shared = !second.said.contains("Connecting to ");
    Attempt { through: shared && second.said.contains("may not ask for"), ..second }
}
