//! What can be wrong, how bad that is, and how it is said to people: on pages, in mails and at hooks alike.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use model::name::Mac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad something is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Somebody is waited for.
    Info,
    /// It works, and will not for ever.
    Warning,
    /// It does not work.
    Critical,
}

impl Severity {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// Its number, the least first.
    pub fn rank(self) -> u8 {
        match self {
            Self::Info => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// A server is registered, and no box has joined as it.
    NeverJoined,
    /// A box joined, and the panel never reached it.
    NeverSeen {
        /// Why not.
        error: Option<String>,
    },
    /// A server does not answer.
    Silent {
        /// When it answered last, in milliseconds since 1970.
        seen_ms: u64,
        /// Why there is no connection.
        error: Option<String>,
    },
    /// A server's clock is off.
    ClockOff {
        /// How far it is ahead of the panel's, in milliseconds.
        ahead_ms: i64,
    },
    /// A server refuses its document.
    Refused {
        /// The document's generation number.
        generation: u64,
        /// What it found.
        why: String,
    },
    /// Steps failed on a server.
    StepsFailed {
        /// How many resources failed.
        count: u64,
        /// The first of them.
        resource: String,
        /// Why that failed.
        why: String,
    },
    /// Somebody came to a server's API who is not the panel, and was refused.
    Stranger {
        /// Where from; loopback, where it was through a tunnel.
        address: IpAddr,
        /// The word for why.
        reason: String,
    },
    /// A pool is not sound.
    PoolUnsound {
        /// Which.
        pool: String,
        /// zpool's word for how it is.
        health: String,
    },
    /// A pool is nearly full.
    PoolFull {
        /// Which.
        pool: String,
        /// How much of it is used.
        percent: u64,
    },
    /// A certificate ends soon, and was not renewed.
    CertificateEnds {
        /// Which.
        name: String,
        /// When, in milliseconds since 1970.
        ends_ms: u64,
    },
    /// A server can't use a certificate.
    CertificateFaulty {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
    /// A volume's image could not be imported.
    ImportFailed {
        /// The volume.
        volume: String,
        /// Why.
        why: String,
    },
    /// A tunnel does not answer.
    TunnelDown {
        /// Why there is no connection.
        error: Option<String>,
    },
    /// Something is not as it should be on a tunnel.
    TunnelFaults {
        /// How much.
        count: u64,
        /// The first of it.
        fault: String,
    },
    /// No tunnel of a network is there, and servers of it can be reached in no other way.
    NoTunnel {
        /// How many servers.
        servers: u64,
        /// The names of its tunnels.
        tunnels: Vec<String>,
    },
    /// Devices stand still in their boot.
    BootsStuck {
        /// How many.
        count: u64,
        /// Numbers and names of the first.
        devices: Vec<(i64, String)>,
    },
    /// Devices could not boot.
    BootsFailed {
        /// How many.
        count: u64,
        /// Numbers and names of the first.
        devices: Vec<(i64, String)>,
        /// What the first said.
        why: String,
    },
    /// Unknown machines asked to boot.
    MachinesWaiting {
        /// How many.
        count: u64,
        /// The card of the first.
        mac: Mac,
    },
    /// Another machine has a device's static address.
    AddressClash {
        /// The address.
        address: Ipv4Addr,
        /// The machine's card.
        mac: Mac,
    },
    /// The panel was never backed up.
    BackupNever,
    /// The panel's last backup is old.
    BackupOld {
        /// When it was made, in milliseconds since 1970.
        made_ms: u64,
    },
    /// Notices can't be delivered.
    NoticesFail {
        /// How often the eldest was tried.
        attempts: u32,
        /// What came of it last.
        error: String,
    },
}

impl Cause {
    /// The word of its kind, as its JSON has it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NeverJoined => "never-joined",
            Self::NeverSeen { .. } => "never-seen",
            Self::Silent { .. } => "silent",
            Self::ClockOff { .. } => "clock-off",
            Self::Refused { .. } => "refused",
            Self::StepsFailed { .. } => "steps-failed",
            Self::Stranger { .. } => "stranger",
            Self::PoolUnsound { .. } => "pool-unsound",
            Self::PoolFull { .. } => "pool-full",
            Self::CertificateEnds { .. } => "certificate-ends",
            Self::CertificateFaulty { .. } => "certificate-faulty",
            Self::ImportFailed { .. } => "import-failed",
            Self::TunnelDown { .. } => "tunnel-down",
            Self::TunnelFaults { .. } => "tunnel-faults",
            Self::NoTunnel { .. } => "no-tunnel",
            Self::BootsStuck { .. } => "boots-stuck",
            Self::BootsFailed { .. } => "boots-failed",
            Self::MachinesWaiting { .. } => "machines-waiting",
            Self::AddressClash { .. } => "address-clash",
            Self::BackupNever => "backup-never",
            Self::BackupOld { .. } => "backup-old",
            Self::NoticesFail { .. } => "notices-fail",
        }
    }
}

/// `: why`, where there is one.
struct Why<'a>(&'a Option<String>);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|why| write!(f, ": {why}"))
    }
}

/// So many of something, with the word for one and for many.
struct Count(u64, &'static str, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, one, many) = self;
        if *count == 1 { write!(f, "1 {one}") } else { write!(f, "{count} {many}") }
    }
}

/// The names of the first, and that there are more.
struct Names<'a>(u64, &'a [(i64, String)]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, devices) = self;
        for (place, (_, name)) in devices.iter().enumerate() {
            write!(f, "{}{name}", if place == 0 { "" } else { ", " })?;
        }
        let shown = u64::try_from(devices.len()).unwrap_or(u64::MAX);
        match count.saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A span of time, to the unit that says most.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match seconds {
            0..120 => write!(f, "{seconds} seconds"),
            120..7_200 => write!(f, "{} minutes", seconds / 60),
            7_200..172_800 => write!(f, "{} hours", seconds / 3600),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// A sentence about the thing that the alert is about, without its name, its time and a full stop.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverJoined => f.write_str("no box has joined as this server"),
            Self::NeverSeen { error } => {
                write!(f, "it joined, and was never reached{}", Why(error))
            }
            Self::Silent { error, .. } => write!(f, "it does not answer{}", Why(error)),
            Self::ClockOff { ahead_ms } => {
                let side = if *ahead_ms < 0 { "behind" } else { "ahead" };
                write!(f, "its clock is {} {side}", Span(ahead_ms.unsigned_abs()))
            }
            Self::Refused { generation, why } => {
                write!(f, "it refuses document {generation}: {why}")
            }
            Self::StepsFailed { count, resource, why } => {
                let count = Count(*count, "resource", "resources");
                write!(f, "{count} failed: {resource}: {why}")
            }
            Self::Stranger { address, reason } if address.is_loopback() => {
                write!(
                    f,
                    "somebody who is not the panel came to it through a tunnel, and was refused: {reason}"
                )
            }
            Self::Stranger { address, reason } => {
                write!(
                    f,
                    "somebody who is not the panel came to it from {address}, and was refused: {reason}"
                )
            }
            Self::PoolUnsound { pool, health } => write!(f, "the pool {pool} is {health}"),
            Self::PoolFull { pool, percent } => write!(f, "the pool {pool} is {percent} % full"),
            Self::CertificateEnds { name, .. } => {
                write!(f, "the certificate {name} ends soon and was not renewed")
            }
            Self::CertificateFaulty { name, why } => {
                write!(f, "the certificate {name} can't be used: {why}")
            }
            Self::ImportFailed { volume, why } => {
                write!(f, "the image of volume {volume} can't be imported: {why}")
            }
            Self::TunnelDown { error } => write!(f, "it does not answer{}", Why(error)),
            Self::TunnelFaults { count, fault } => match count {
                0 | 1 => f.write_str(fault),
                more => write!(f, "{fault} (and {} more)", more - 1),
            },
            Self::NoTunnel { servers, tunnels } => {
                let (servers, tunnels) = (Count(*servers, "server", "servers"), tunnels.join(", "));
                write!(f, "{servers} can't be reached, for no tunnel of it answers: {tunnels}")
            }
            Self::BootsStuck { count, devices } => {
                let (of, names) =
                    (Count(*count, "device stands", "devices stand"), Names(*count, devices));
                write!(f, "{of} still in the boot: {names}")
            }
            Self::BootsFailed { count, devices, why } => {
                let (of, names) = (Count(*count, "device", "devices"), Names(*count, devices));
                write!(f, "{of} could not boot: {names}")?;
                if why.is_empty() { Ok(()) } else { write!(f, ": {why}") }
            }
            Self::MachinesWaiting { count, mac } => {
                let count = Count(*count, "unknown machine", "unknown machines");
                write!(f, "{count} asked to boot: {mac}")?;
                if count.0 > 1 { f.write_str(" and others") } else { Ok(()) }
            }
            Self::AddressClash { address, mac } => {
                write!(f, "its address {address} is used by another machine: {mac}")
            }
            Self::BackupNever => f.write_str("it was never backed up"),
            Self::BackupOld { .. } => f.write_str("its last backup is older than a month"),
            Self::NoticesFail { attempts, error } => {
                let times = Count(u64::from(*attempts), "time", "times");
                write!(f, "a notice could not be delivered {times}: {error}")
            }
        }
    }
}
