//! Alerts: what somebody has to look after, computed from what is known and never from what once happened. Each says what is wrong,
//! of what, how badly and since when. A pure function of the facts and the time; whoever keeps the result keeps since when.

mod cause;
mod facts;
mod tunnels;

use std::collections::BTreeMap;

pub use cause::{Cause, Severity};
pub use facts::{
    BackupFacts, BootFacts, CertificateFacts, ChannelFacts, Clash, Facts, NetworkFacts,
    PersonFacts, Refusal, ServerFacts, TunnelFacts, TunnelledFacts,
};
use model::{certify::Endpoint, wire::Stranger};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ca::Kind,
    noun::{Id, Network, Noun, Organization, Place},
};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// An agent answers every 15 seconds at the latest; one that did not for so long is away.
pub const SILENT_MS: u64 = 2 * MINUTE_MS;
/// A clock that is off by less hurts nobody: TLS and logs bear it.
pub const CLOCK_OFF_MS: u64 = MINUTE_MS;
/// How full a pool is when somebody has to know, and when it is about to stop: ZFS slows down from about 80 % on, and a thin pool
/// that is full stops every device.
pub const POOL_PERCENT: [u64; 2] = [80, 90];
/// So much lower it has to fall before it counts as mended, so that a pool at the mark is not told of every minute.
const POOL_BACK_PERCENT: u64 = 2;
/// Certificates are renewed when a third of their life is left; where that did not happen, somebody has to know this early.
pub const CERTIFICATE_MS: [u64; 2] = [30 * DAY_MS, 7 * DAY_MS];
/// No step of a boot takes longer, on the slowest network.
pub const BOOT_STUCK_MS: u64 = 5 * MINUTE_MS;
/// A boot that stood still for so long is no boot any more: the machine was switched off.
pub const BOOT_GIVEN_UP_MS: u64 = 2 * HOUR_MS;
/// Machines that asked to boot, boots that failed, and strangers at a server are news for a day.
pub const NEWS_MS: u64 = DAY_MS;
/// A backup that is older no longer helps much.
pub const BACKUP_MS: u64 = 30 * DAY_MS;
/// A notice that failed so often is not late any more.
pub const NOTICE_TRIES: u32 = 3;

/// Something that somebody has to look after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Names this alert for as long as it is true.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// Since when it is true, in milliseconds since 1970.
    pub since_ms: u64,
    /// What it is about.
    pub about: About,
    /// Where that lives, which says who sees the alert.
    pub place: Place,
    /// The organization of that place; absent for the panel.
    pub organization: Option<Id<Organization>>,
    /// The name of the network, where there is one.
    pub network: Option<String>,
    /// What is wrong.
    pub cause: Cause,
}

/// The thing that an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// Its kind; absent for the panel itself and for channels of notices.
    pub noun: Option<Noun>,
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
}

impl Alert {
    /// The network that it is about something of.
    pub fn network_id(&self) -> Option<Id<Network>> {
        match self.place {
            Place::Network(network) => Some(network),
            Place::Panel | Place::Organization(_) => None,
        }
    }
}

/// All alerts, the worst first, and of these the eldest.
pub fn alerts(facts: &Facts, now_ms: u64) -> Vec<Alert> {
    let mut found = Found { facts, now_ms, alerts: BTreeMap::new() };
    for server in &facts.servers {
        found.server(server);
        found.pools(server);
        found.machines(server);
    }
    for network in &facts.networks {
        found.boots(network);
    }
    for tunnel in &facts.tunnels {
        found.tunnel(tunnel);
    }
    for network in &facts.tunnelled {
        found.tunnelled(network);
    }
    for person in &facts.people {
        found.person(person);
    }
    found.panel();
    let mut alerts: Vec<Alert> = found.alerts.into_values().collect();
    alerts.sort_by(|a, b| {
        let order = |alert: &Alert| (std::cmp::Reverse(alert.severity), alert.since_ms);
        order(a).cmp(&order(b)).then_with(|| a.key.cmp(&b.key))
    });
    alerts
}

/// Alerts as they are found.
struct Found<'a> {
    facts: &'a Facts,
    now_ms: u64,
    alerts: BTreeMap<String, Alert>,
}

/// Where an alert belongs.
struct At {
    about: About,
    place: Place,
    organization: Option<Id<Organization>>,
    network: Option<String>,
}

impl At {
    fn server(server: &ServerFacts) -> Self {
        Self::in_network(server, Noun::Server, server.id.number(), &server.name)
    }

    fn in_network(server: &ServerFacts, noun: Noun, id: i64, name: &str) -> Self {
        Self {
            about: About { noun: Some(noun), id, name: name.to_owned() },
            place: server.network.place(),
            organization: Some(server.organization),
            network: Some(server.network_name.clone()),
        }
    }

    fn network(network: &NetworkFacts) -> Self {
        let (id, name) = (network.id.number(), network.name.clone());
        Self {
            about: About { noun: Some(Noun::Network), id, name: name.clone() },
            place: network.id.place(),
            organization: Some(network.organization),
            network: Some(name),
        }
    }

    fn panel(name: &str) -> Self {
        let about = About { noun: None, id: 0, name: name.to_owned() };
        Self { about, place: Place::Panel, organization: None, network: None }
    }
}

impl Found<'_> {
    fn ago(&self, ms: u64) -> u64 {
        self.now_ms.saturating_sub(ms)
    }

    fn stood(&self, key: &str) -> Option<&Alert> {
        self.facts.standing.get(key)
    }

    /// Notes an alert. What stood before is as old as it was; what is new is as old as the fact says, or begins now.
    fn add(&mut self, of: &str, at: At, severity: Severity, since_ms: Option<u64>, cause: Cause) {
        let key = format!("{}/{of}", cause.word());
        let since_ms = self.stood(&key).map(|alert| alert.since_ms).or(since_ms);
        let since_ms = since_ms.unwrap_or(self.now_ms).min(self.now_ms);
        let At { about, place, organization, network } = at;
        let alert = Alert {
            key: key.clone(),
            severity,
            since_ms,
            about,
            place,
            organization,
            network,
            cause,
        };
        self.alerts.insert(key, alert);
    }

    fn server(&mut self, server: &ServerFacts) {
        let of = server.id.to_string();
        let at = || At::server(server);
        match (server.seen_ms, server.joined_ms) {
            (None, None) => self.add(&of, at(), Severity::Info, None, Cause::NeverJoined),
            (None, Some(joined_ms)) => {
                if self.ago(joined_ms.max(self.facts.started_ms)) > SILENT_MS {
                    let cause = Cause::NeverSeen { error: server.error.clone() };
                    self.add(&of, at(), Severity::Critical, Some(joined_ms), cause);
                }
            }
            (Some(seen_ms), _) => self.silence(server, seen_ms),
        }
        if let Some(ahead_ms) = server.clock_ms.filter(|ms| ms.unsigned_abs() >= CLOCK_OFF_MS) {
            self.add(&of, at(), Severity::Warning, None, Cause::ClockOff { ahead_ms });
        }
        if let Some(Refusal { generation, why }) = &server.refused
            && *generation > server.acknowledged
        {
            let cause = Cause::Refused { generation: *generation, why: why.clone() };
            self.add(&of, at(), Severity::Critical, None, cause);
        }
        if let Some((resource, why)) = server.sighting.failures.iter().next() {
            let (resource, why) = (resource.clone(), why.clone());
            let cause = Cause::StepsFailed { count: server.sighting.failed, resource, why };
            self.add(&of, at(), Severity::Warning, None, cause);
        }
        if let Some(Stranger { address, reason, at_ms }) = &server.sighting.stranger
            && self.ago(*at_ms) <= NEWS_MS
        {
            let cause = Cause::Stranger { address: *address, reason: reason.clone() };
            self.add(&of, at(), Severity::Warning, Some(*at_ms), cause);
        }
        for (name, ends_ms) in ends(server) {
            self.certificate(&format!("{of}/{name}"), at(), name, ends_ms);
        }
        for (name, why) in &server.sighting.certificates {
            let cause = Cause::CertificateFaulty { name: name.clone(), why: why.clone() };
            self.add(&format!("{of}/{name}"), at(), Severity::Warning, None, cause);
        }
        for (volume, why) in &server.sighting.imports {
            let cause = Cause::ImportFailed { volume: volume.to_string(), why: why.clone() };
            self.add(&format!("{of}/{volume}"), at(), Severity::Warning, None, cause);
        }
    }

    /// A panel that has just started knows nothing of who is there; what stood before it started still does.
    fn silence(&mut self, server: &ServerFacts, seen_ms: u64) {
        let of = server.id.to_string();
        let error = server.error.clone();
        let cause = Cause::Silent { seen_ms, error };
        let stood = self.stood(&format!("{}/{of}", cause.word())).is_some();
        let from = if stood { seen_ms } else { seen_ms.max(self.facts.started_ms) };
        if self.ago(from) > SILENT_MS {
            self.add(&of, At::server(server), Severity::Critical, Some(seen_ms), cause);
        }
    }

    fn pools(&mut self, server: &ServerFacts) {
        for (name, pool) in &server.sighting.pools {
            let of = format!("{}/{name}", server.id);
            // zpoolconcepts(7): a degraded pool works on; of the others, none does as it should.
            let severity = match pool.health.as_str() {
                "ONLINE" => None,
                "DEGRADED" => Some(Severity::Warning),
                _ => Some(Severity::Critical),
            };
            if let Some(severity) = severity {
                let (pool, health) = (name.to_string(), pool.health.clone());
                let cause = Cause::PoolUnsound { pool, health };
                self.add(&of, At::server(server), severity, None, cause);
            }
            let percent = pool.used_percent();
            let cause = Cause::PoolFull { pool: name.to_string(), percent };
            let before = self.stood(&format!("{}/{of}", cause.word())).map(|alert| alert.severity);
            if let Some(severity) = fullness(percent, before) {
                self.add(&of, At::server(server), severity, None, cause);
            }
        }
    }

    fn machines(&mut self, server: &ServerFacts) {
        let machines = &server.machines;
        let recent: Vec<_> =
            machines.iter().filter(|seen| self.ago(seen.last_seen_ms) < NEWS_MS).collect();
        if let Some(eldest) = recent.iter().min_by_key(|seen| seen.first_seen_ms) {
            let count = u64::try_from(recent.len()).unwrap_or(u64::MAX);
            let cause = Cause::MachinesWaiting { count, mac: eldest.mac };
            let since = Some(eldest.first_seen_ms);
            let of = server.id.to_string();
            self.add(&of, At::server(server), Severity::Info, since, cause);
        }
        let from_ms = self.now_ms.saturating_sub(NEWS_MS);
        for clash in server.clashes.iter().filter(|clash| clash.seen_ms > from_ms) {
            let Clash { device, name, address, mac, .. } = clash;
            let cause = Cause::AddressClash { address: *address, mac: *mac };
            let at = At::in_network(server, Noun::Device, device.number(), name);
            self.add(&device.to_string(), at, Severity::Warning, None, cause);
        }
    }

    /// One alert a network: a room that can't boot is one trouble.
    fn boots(&mut self, network: &NetworkFacts) {
        let stuck = |boot: &&BootFacts| {
            let still = self.ago(boot.last_ms);
            boot.failed.is_none() && (BOOT_STUCK_MS..BOOT_GIVEN_UP_MS).contains(&still)
        };
        let failed = |boot: &&BootFacts| boot.failed.is_some() && self.ago(boot.last_ms) < NEWS_MS;
        let stuck: Vec<&BootFacts> = network.boots.iter().filter(stuck).collect();
        let failed: Vec<&BootFacts> = network.boots.iter().filter(failed).collect();
        let of = network.id.to_string();
        let names = |boots: &[&BootFacts]| -> Vec<(i64, String)> {
            boots.iter().take(5).map(|boot| (boot.device.number(), boot.name.clone())).collect()
        };
        let count = |boots: &[&BootFacts]| u64::try_from(boots.len()).unwrap_or(u64::MAX);
        if let Some(eldest) = stuck.iter().map(|boot| boot.last_ms).min() {
            let cause = Cause::BootsStuck { count: count(&stuck), devices: names(&stuck) };
            self.add(&of, At::network(network), Severity::Warning, Some(eldest), cause);
        }
        if let Some(eldest) = failed.iter().min_by_key(|boot| boot.last_ms) {
            let why = eldest.failed.clone().unwrap_or_default();
            let (count, devices) = (count(&failed), names(&failed));
            let cause = Cause::BootsFailed { count, devices, why };
            self.add(&of, At::network(network), Severity::Warning, Some(eldest.last_ms), cause);
        }
    }

    fn certificate(&mut self, of: &str, at: At, name: &str, ends_ms: u64) {
        let left = ends_ms.saturating_sub(self.now_ms);
        let [early, late] = CERTIFICATE_MS;
        if left < early {
            let severity = if left < late { Severity::Critical } else { Severity::Warning };
            let cause = Cause::CertificateEnds { name: name.to_owned(), ends_ms };
            self.add(of, at, severity, Some(ends_ms.saturating_sub(early)), cause);
        }
    }

    /// Nobody renews it for them, and without it they can't come in to make another.
    fn person(&mut self, person: &PersonFacts) {
        let PersonFacts { id, name, organization, ends_ms } = person;
        let at = At {
            about: About { noun: Some(Noun::User), id: id.number(), name: name.clone() },
            place: organization.map_or(Place::Panel, Place::Organization),
            organization: *organization,
            network: None,
        };
        self.certificate(&format!("user {id}"), at, "to sign in with", *ends_ms);
    }

    fn panel(&mut self) {
        for CertificateFacts { name, ends_ms } in &self.facts.own_certificates {
            self.certificate(name, At::panel("panel"), name, *ends_ms);
        }
        let BackupFacts { made_ms, worth } = self.facts.backup;
        match made_ms {
            None if worth => {
                self.add("panel", At::panel("panel"), Severity::Warning, None, Cause::BackupNever);
            }
            Some(made_ms) if worth && self.ago(made_ms) > BACKUP_MS => {
                let cause = Cause::BackupOld { made_ms };
                let since = Some(made_ms.saturating_add(BACKUP_MS));
                self.add("panel", At::panel("panel"), Severity::Warning, since, cause);
            }
            None | Some(_) => {}
        }
        for channel in self.facts.channels.iter().filter(|c| c.attempts >= NOTICE_TRIES) {
            let at = At {
                about: About { noun: None, id: channel.id, name: channel.name.clone() },
                place: Place::Organization(channel.organization),
                organization: Some(channel.organization),
                network: None,
            };
            let (attempts, error) = (channel.attempts, channel.error.clone());
            let cause = Cause::NoticesFail { attempts, error };
            let since = Some(channel.made_ms);
            self.add(&channel.id.to_string(), at, Severity::Warning, since, cause);
        }
    }
}

/// When a server's certificates end: those that it works with, for one that was given and is not in use renews nothing; of an
/// endpoint that it shows none of, the newest that it was given.
fn ends(server: &ServerFacts) -> BTreeMap<&str, u64> {
    let given = server.certificates.iter().map(|given| (given.name.as_str(), given.ends_ms));
    let mut ends: BTreeMap<&str, u64> = given.collect();
    let kinds = [(Endpoint::Api, Kind::Agent), (Endpoint::Boot, Kind::Boot)];
    for (endpoint, kind) in kinds {
        if let Some(in_use) = server.sighting.certificate_ends.get(endpoint.as_str()) {
            ends.insert(kind.word(), *in_use);
        }
    }
    ends
}

/// How bad it is that a pool is so full, when it was so bad before.
fn fullness(percent: u64, before: Option<Severity>) -> Option<Severity> {
    let [much, most] = POOL_PERCENT;
    let mark = |mark: u64, severity| {
        if before >= Some(severity) { mark.saturating_sub(POOL_BACK_PERCENT) } else { mark }
    };
    if percent >= mark(most, Severity::Critical) {
        Some(Severity::Critical)
    } else if percent >= mark(much, Severity::Warning) {
        Some(Severity::Warning)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
