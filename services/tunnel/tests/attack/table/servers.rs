//! What a server tries that has a valid key.

use std::path::Path;

use super::{
    attack, chain, config, key_option, layer, no_terminal, permit_listen, session, sftp, stream,
};
use crate::{
    Attack, Off,
    field::{Attempt, B, Field, Seen, is_open},
    table::{broker_only, panel_only, ssh_only},
};

pub(super) fn attacks() -> Vec<Attack> {
    [of_streams(), of_ports(), of_sessions()].into_iter().flatten().collect()
}

fn of_streams() -> Vec<Attack> {
    let dynamic = |field: &Field| {
        let proxy = ["-N", "-D", "127.0.0.1:1080"];
        let mut session = field.session(B, &proxy);
        session.waits_for("Entering interactive session");
        let mut curl = field.b.run("curl");
        curl.args(["--silent", "--max-time", "10", "--socks5", "127.0.0.1:1080"]);
        let got = field.prints(
            {
                curl.arg("http://10.99.3.2/");
                curl
            },
            "got through",
        );
        Attempt { said: session.said(), ..got }
    };
    vec![
        attack(
            "-L to A's port",
            |field| field.local(B, "127.0.0.1:10001"),
            vec![stream(), chain("the chain of forwarded ports", broker_only)],
        ),
        attack("-L to sshd", |field| field.local(B, "127.0.0.1:22"), vec![stream()]),
        attack(
            "-L to the API",
            |field| field.local(B, "127.0.0.1:8444"),
            vec![stream(), chain("the chain of the API", panel_only)],
        ),
        attack("-L to the outside", |field| field.local(B, "10.99.3.2:80"), vec![stream()]),
        attack("-D", dynamic, vec![stream()]),
    ]
}

fn of_ports() -> Vec<Attack> {
    let everywhere = |field: &Field| {
        field.remote(B, "0.0.0.0:10003:127.0.0.1:9", || field.other.connects("10.99.3.1:10003"))
    };
    vec![
        attack(
            "-R on another server's port",
            |field| field.remote(B, "127.0.0.1:10004:127.0.0.1:9", || is_open("127.0.0.1:10004")),
            vec![permit_listen()],
        ),
        attack(
            "-R on the port of A, who is there",
            |field| field.remote(B, "127.0.0.1:10001:127.0.0.1:9", || true),
            vec![
                permit_listen(),
                vec![layer(
                    "A, who is there",
                    Off::Never,
                    Seen::Log("cannot listen to port: 10001"),
                )],
            ],
        ),
        attack(
            "-R on all addresses",
            everywhere,
            vec![
                permit_listen(),
                config(
                    "PermitListen",
                    &[("PermitListen 127.0.0.1:*", "PermitListen any")],
                    Seen::Log("but the request was denied"),
                ),
                config(
                    "GatewayPorts",
                    &[("GatewayPorts no", "GatewayPorts clientspecified")],
                    Seen::Harmless(|| !is_open("0.0.0.0:10003")),
                ),
                vec![layer(
                    "the chain that leaves SSH alone public",
                    Off::Rules(ssh_only),
                    Seen::Client("remote forward success"),
                )],
            ],
        ),
        attack(
            "-R on a privileged port",
            |field| field.remote(B, "127.0.0.1:80:127.0.0.1:9", || true),
            vec![
                permit_listen(),
                vec![layer(
                    "the kernel, where the user is not root",
                    Off::Never,
                    Seen::Log("bind [127.0.0.1]:80: Permission denied"),
                )],
            ],
        ),
        attack(
            "-R on a Unix socket",
            |field| field.remote(B, "/tmp/b:127.0.0.1:9", || Path::new("/tmp/b").exists()),
            vec![config(
                "AllowStreamLocalForwarding",
                &[("AllowStreamLocalForwarding no", "AllowStreamLocalForwarding yes")],
                Seen::Client("Server has disabled streamlocal forwarding"),
            )],
        ),
    ]
}

fn of_sessions() -> Vec<Attack> {
    let agent = |field: &Field| {
        let mut ssh = field.ssh(B, &["-A", "--", "echo agent=$SSH_AUTH_SOCK"]);
        ssh.env("SSH_AUTH_SOCK", "/mnt/agent");
        field.prints(ssh, "agent=/")
    };
    let x11 = |field: &Field| {
        let mut ssh = field.ssh(B, &["-X", "--", "echo display=$DISPLAY"]);
        ssh.env("DISPLAY", ":7");
        field.prints(ssh, "display=localhost:")
    };
    let none = || Seen::Client("\nagent=\n");
    let no_display = || Seen::Client("\ndisplay=\n");
    vec![
        attack(
            "a shell",
            |field| field.answers(field.ssh(B, &["-T"]), b"echo g''ot\n", b"got\n"),
            vec![session()],
        ),
        attack(
            "a command",
            |field| field.prints(field.ssh(B, &["--", "echo g''ot"]), "got\n"),
            vec![session()],
        ),
        attack(
            "subsystem sftp",
            |field| sftp(field, B),
            vec![
                session().into_iter().take(1).collect(),
                config(
                    "no subsystem",
                    &[(
                        "PermitTTY no\nPermit",
                        "PermitTTY no\nSubsystem sftp internal-sftp\nPermit",
                    )],
                    Seen::Log(
                        "subsystem request for sftp by user a10002 failed, subsystem not found",
                    ),
                ),
                session().into_iter().skip(1).take(1).collect(),
            ],
        ),
        attack(
            "agent forwarding",
            agent,
            vec![
                session(),
                config(
                    "AllowAgentForwarding",
                    &[("AllowAgentForwarding no", "AllowAgentForwarding yes")],
                    none(),
                ),
                key_option("the key's restrict", "restrict,agent-forwarding", none()),
            ],
        ),
        attack(
            "X11",
            x11,
            vec![
                session(),
                config("X11Forwarding", &[("X11Forwarding no", "X11Forwarding yes")], no_display()),
                key_option("the key's restrict", "restrict,X11-forwarding", no_display()),
                config(
                    "no xauth",
                    &[("X11Forwarding yes", "X11Forwarding yes\nXAuthLocation /usr/bin/true")],
                    no_display(),
                ),
            ],
        ),
        attack(
            "a terminal",
            |field| field.prints(field.ssh(B, &["-tt", "--", "ls -l /proc/self/fd"]), "/dev/pts/"),
            vec![
                session().into_iter().take(1).collect(),
                config("PermitTTY", &[("PermitTTY no", "PermitTTY yes")], no_terminal()),
                key_option("the key's restrict", "restrict,pty", no_terminal()),
                session().into_iter().skip(1).collect(),
            ],
        ),
        attack(
            "a tun device",
            |field| field.prints(field.ssh(B, &["-w", "5:5", "-N"]), "never"),
            vec![
                config(
                    "PermitTunnel",
                    &[("PermitTunnel no", "PermitTunnel yes")],
                    Seen::Client("Server has rejected tunnel device forwarding"),
                ),
                vec![layer("the kernel, where the user is not root", Off::Never, Seen::Log("tun"))],
            ],
        ),
    ]
}
