//! iptables(8), in whole chains of ours: what they should say is rendered as iptables-save(8) prints it, compared with what it
//! prints, and replaced in one transaction of iptables-restore(8). A chain without our prefix is never changed, but for the one
//! jump to ours that stands first in it.
//!
//! Nothing here asks for the state of a connection: an appliance's kernel has no conntrack.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use ipnet::IpNet;

use crate::cmd::{self, Cmd, Program};

/// How the names of our chains begin. A name has at most 28 characters (iptables(8)).
pub const PREFIX: &str = "CLUSTERDUCKS-";

/// Why the chains are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// They can't be read.
    #[error("the rules of {family} can't be read")]
    Save {
        /// Of which family.
        family: Family,
        /// Why.
        source: cmd::Error,
    },
    /// A line of iptables-save(8) is none.
    #[error("iptables-save printed {line:?}")]
    Line {
        /// The line.
        line: String,
    },
    /// They can't be replaced.
    #[error("the rules of {family} can't be replaced")]
    Restore {
        /// Of which family.
        family: Family,
        /// Why.
        source: cmd::Error,
    },
    /// They were replaced, and are others all the same.
    #[error("the rules of {family} are not as they were put there")]
    NotKept {
        /// Of which family.
        family: Family,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change of its arguments.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Line { .. } => false,
            Self::Save { source, .. } | Self::Restore { source, .. } => source.retryable(),
            Self::NotKept { .. } => true,
        }
    }
}

/// The result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Which of the two sets of rules a kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// iptables(8).
    V4,
    /// ip6tables(8).
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn holds(self, net: &IpNet) -> bool {
        match net {
            IpNet::V4(_) => self == Self::V4,
            IpNet::V6(_) => self == Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A chain of the table `filter` that one of ours is jumped to from, before all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// `INPUT`
    Input,
    /// `OUTPUT`
    Output,
}

impl Hook {
    const ALL: [Self; 2] = [Self::Input, Self::Output];

    /// The chain of ours.
    fn chain(self) -> String {
        format!("{PREFIX}{self}")
    }

    fn jump(self) -> String {
        format!("-A {self} -j {}", self.chain())
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "INPUT",
            Self::Output => "OUTPUT",
        })
    }
}

/// Whether packets pass the loopback interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loopback {
    /// They do.
    Over,
    /// They do not.
    Beside,
}

/// What packets a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP: those that open a connection. What belongs to one that is open carries another flag.
    TcpOpening {
        /// To which ports, the first and the last; absent is to all.
        ports: Option<(u16, u16)>,
    },
    /// TCP, all packets to these ports, the first and the last.
    Tcp {
        /// The ports.
        ports: (u16, u16),
    },
    /// All but TCP.
    NotTcp,
}

/// Whose packets a rule is about. A packet without a socket belongs to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// These users', the first and the last.
    Is(u32, u32),
    /// All but this user's; nobody's too.
    IsNot(u32),
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the rules that stand behind the jump to ours.
    Return,
    /// It is answered by a reset, or by "port unreachable" where it is not TCP.
    Reject,
}

/// A rule. What is absent matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where the packet comes from.
    pub source: Option<IpNet>,
    /// Which way it takes.
    pub loopback: Option<Loopback>,
    /// What it carries.
    pub protocol: Protocol,
    /// Whose it is; known of packets that leave.
    pub owner: Option<Owner>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What our chains say, for both families: a rule with a source stands in its family alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chains {
    /// What comes in.
    pub input: Vec<Rule>,
    /// What goes out.
    pub output: Vec<Rule>,
}

impl Chains {
    fn of(&self, hook: Hook) -> &[Rule] {
        match hook {
            Hook::Input => &self.input,
            Hook::Output => &self.output,
        }
    }

    /// The rules of a chain as iptables-save(8) prints them.
    fn lines(&self, family: Family, hook: Hook) -> Vec<String> {
        let stands = |rule: &&Rule| rule.source.is_none_or(|net| family.holds(&net));
        self.of(hook).iter().filter(stands).map(|rule| rule.line(family, hook)).collect()
    }
}

impl Rule {
    fn line(&self, family: Family, hook: Hook) -> String {
        let mut words = vec![format!("-A {}", hook.chain())];
        // Everywhere is not printed.
        let source = self.source.filter(|net| net.prefix_len() > 0);
        words.extend(source.map(|net| format!("-s {}", net.trunc())));
        let interface = match hook {
            Hook::Input => "-i lo",
            Hook::Output => "-o lo",
        };
        words.extend(self.loopback.map(|way| match way {
            Loopback::Over => interface.to_owned(),
            Loopback::Beside => format!("! {interface}"),
        }));
        const OPENING: &str = "--tcp-flags FIN,SYN,RST,ACK SYN";
        words.push(match self.protocol {
            Protocol::TcpOpening { ports: None } => format!("-p tcp -m tcp {OPENING}"),
            Protocol::TcpOpening { ports: Some(ports) } => {
                format!("-p tcp -m tcp --dport {} {OPENING}", range(ports, ':'))
            }
            Protocol::Tcp { ports } => format!("-p tcp -m tcp --dport {}", range(ports, ':')),
            Protocol::NotTcp => "! -p tcp".to_owned(),
        });
        words.extend(self.owner.map(|owner| match owner {
            Owner::Is(first, last) => format!("-m owner --uid-owner {}", range((first, last), '-')),
            Owner::IsNot(uid) => format!("-m owner ! --uid-owner {uid}"),
        }));
        words.push(match (self.verdict, self.protocol, family) {
            (Verdict::Return, ..) => "-j RETURN".to_owned(),
            (Verdict::Reject, Protocol::NotTcp, Family::V4) => {
                "-j REJECT --reject-with icmp-port-unreachable".to_owned()
            }
            (Verdict::Reject, Protocol::NotTcp, Family::V6) => {
                "-j REJECT --reject-with icmp6-port-unreachable".to_owned()
            }
            (Verdict::Reject, ..) => "-j REJECT --reject-with tcp-reset".to_owned(),
        });
        words.join(" ")
    }
}

fn range<N: PartialEq + fmt::Display>((first, last): (N, N), to: char) -> String {
    if first == last { first.to_string() } else { format!("{first}{to}{last}") }
}

/// What there is of ours, and around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The rules of our chains, whole lines, by the chain's name.
    ours: BTreeMap<String, Vec<String>>,
    /// The rules of the chains that jump to ours, whole lines.
    hooks: BTreeMap<Hook, Vec<String>>,
}

/// Reads what iptables-save(8) printed of the table `filter`.
///
/// # Errors
/// A line is none of those that it prints.
pub fn parse(text: &str) -> Result<Observed> {
    let mut observed = Observed::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] | ["*filter"] | ["COMMIT"] => {}
            [first, ..] if first.starts_with('#') => {}
            [first, _, _] if first.starts_with(':') => {
                let name = first.trim_start_matches(':');
                if name.starts_with(PREFIX) {
                    observed.ours.entry(name.to_owned()).or_default();
                }
            }
            ["-A", name, ..] => {
                let hook = Hook::ALL.into_iter().find(|hook| hook.to_string() == *name);
                if name.starts_with(PREFIX) {
                    observed.ours.entry((*name).to_owned()).or_default().push(line.to_owned());
                } else if let Some(hook) = hook {
                    observed.hooks.entry(hook).or_default().push(line.to_owned());
                }
            }
            _ => return Err(Error::Line { line: line.to_owned() }),
        }
    }
    Ok(observed)
}

/// What iptables-restore(8) has to be given, without flushing what it does not name; `None` when all is as it should be.
pub fn plan(desired: &Chains, observed: &Observed, family: Family) -> Option<String> {
    let mut declared = Vec::new();
    let mut around = Vec::new();
    let mut rules = Vec::new();
    for hook in Hook::ALL {
        let lines = desired.lines(family, hook);
        if observed.ours.get(&hook.chain()) != Some(&lines) {
            // Naming a chain empties it.
            declared.push(format!(":{} - [0:0]", hook.chain()));
            rules.extend(lines);
        }
        let there = observed.hooks.get(&hook).map(Vec::as_slice).unwrap_or_default();
        let jumps = there.iter().filter(|line| **line == hook.jump()).count();
        if jumps != 1 || there.first() != Some(&hook.jump()) {
            around.extend(std::iter::repeat_n(hook.jump().replacen("-A", "-D", 1), jumps));
            around.push(format!("-I {hook} -j {}", hook.chain()));
        }
    }
    let stray = |name: &&String| !Hook::ALL.iter().any(|hook| hook.chain() == **name);
    for name in observed.ours.keys().filter(stray) {
        declared.push(format!(":{name} - [0:0]"));
        rules.push(format!("-X {name}"));
    }
    let lines: Vec<String> = [declared, around, rules].concat();
    (!lines.is_empty()).then(|| format!("*filter\n{}\nCOMMIT\n", lines.join("\n")))
}

/// Reads the machine's rules.
///
/// # Errors
/// They can't be read.
pub async fn observe(family: Family) -> Result<Observed> {
    let program = match family {
        Family::V4 => Program::IptablesSave,
        Family::V6 => Program::Ip6tablesSave,
    };
    let printed = Cmd::new(program).args(["-t", "filter"]).run().await;
    parse(&printed.map_err(|source| Error::Save { family, source })?)
}

/// Makes our chains of one family say this, and looks again. Returns whether they had to be changed.
///
/// # Errors
/// They can't be read or replaced, or are others afterwards.
pub async fn apply(desired: &Chains, family: Family) -> Result<bool> {
    let Some(script) = plan(desired, &observe(family).await?, family) else { return Ok(false) };
    let program = match family {
        Family::V4 => Program::IptablesRestore,
        Family::V6 => Program::Ip6tablesRestore,
    };
    let restore = Cmd::new(program).args(["--noflush", "--wait", "10"]).stdin_bytes(script);
    restore.run().await.map_err(|source| Error::Restore { family, source })?;
    match plan(desired, &observe(family).await?, family) {
        None => Ok(true),
        Some(_) => Err(Error::NotKept { family }),
    }
}
