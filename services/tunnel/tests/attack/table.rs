//! The attacks, and what stands in their way.

mod boxes;
mod servers;
mod strangers;

use host::iptables::{Loopback, Owner, Protocol, Rule, Verdict};
use model::tunnel::API_PORT;

use crate::{
    Attack, Layer, Off,
    field::{Attempt, Field, Seen},
};

const ALLOW: (&str, &str) = ("AllowTcpForwarding remote", "AllowTcpForwarding yes");

fn layer(name: &'static str, off: Off, seen: Seen) -> Layer {
    Layer { name, off, seen }
}

fn attack(name: &'static str, attempt: fn(&Field) -> Attempt, layers: Vec<Vec<Layer>>) -> Attack {
    Attack { name, attempt, layers: layers.into_iter().flatten().collect() }
}

pub(crate) fn shut_in(rule: &Rule) -> bool {
    matches!(rule.owner, Some(Owner::Is(..)))
}

pub(crate) fn broker_only(rule: &Rule) -> bool {
    matches!(rule.owner, Some(Owner::IsNot(_)))
}

pub(crate) fn panel_only(rule: &Rule) -> bool {
    rule.protocol == Protocol::Tcp { ports: (API_PORT, API_PORT) }
        && rule.verdict == Verdict::Reject
}

pub(crate) fn ssh_only(rule: &Rule) -> bool {
    rule.loopback == Some(Loopback::Beside)
}

/// What stands between a server and a stream from the tunnel.
fn stream() -> Vec<Layer> {
    vec![
        layer("AllowTcpForwarding", Off::Config(&[ALLOW]), Seen::Log("refused local port forward")),
        layer(
            "PermitOpen",
            Off::Config(&[("PermitOpen none", "PermitOpen any")]),
            Seen::Log("but the request was denied"),
        ),
        layer("the chain that shuts servers in", Off::Rules(shut_in), Seen::Log("connect_to")),
    ]
}

fn chain(name: &'static str, rule: fn(&Rule) -> bool) -> Vec<Layer> {
    vec![layer(name, Off::Rules(rule), Seen::Log("connect_to"))]
}

/// What stands between a server and a command of its own.
fn session() -> Vec<Layer> {
    vec![
        layer(
            "MaxSessions",
            Off::Config(&[("MaxSessions 0", "MaxSessions 10")]),
            Seen::Log("no more sessions"),
        ),
        layer(
            "the key's command",
            Off::Key(",command=\"[^\"]*\"", ""),
            Seen::Log("Starting session: forced-command (key-option) '/usr/bin/false'"),
        ),
        layer(
            "the user's shell",
            Off::Shell,
            Seen::Client("This account is currently not available"),
        ),
    ]
}

fn key_option(name: &'static str, to: &'static str, seen: Seen) -> Vec<Layer> {
    vec![layer(name, Off::Key("restrict", to), seen)]
}

fn config(
    name: &'static str,
    texts: &'static [(&'static str, &'static str)],
    seen: Seen,
) -> Vec<Layer> {
    vec![layer(name, Off::Config(texts), seen)]
}

fn no_terminal() -> Seen {
    Seen::Client("PTY allocation request failed")
}

fn permit_listen() -> Vec<Layer> {
    vec![layer(
        "the key's permitlisten",
        Off::Key(",permitlisten=\"[^\"]*\"", ""),
        Seen::Log("but the request was denied"),
    )]
}

pub(crate) fn attacks() -> Vec<Attack> {
    [servers::attacks(), boxes::attacks(), strangers::attacks()].into_iter().flatten().collect()
}

/// Begins to speak it (draft-ietf-secsh-filexfer-02, 4): the answer to INIT is VERSION.
fn sftp(field: &Field, user: &str) -> Attempt {
    let init = [0, 0, 0, 5, 1, 0, 0, 0, 3];
    field.answers(field.ssh(user, &["-s", "--", "sftp"]), &init, &[2, 0, 0, 0, 3])
}
