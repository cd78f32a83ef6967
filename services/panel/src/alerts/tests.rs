use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{
    fleet::State,
    sighting::{Machine, PoolSeen, Sighting},
};

const NOW: u64 = 1_800_000_000_000;

/// A server with which nothing is wrong.
fn sound() -> ServerFacts {
    ServerFacts {
        id: Id::new(7),
        name: "agent-1".to_owned(),
        network: Id::new(3),
        network_name: "north".to_owned(),
        organization: Id::new(2),
        joined_ms: Some(NOW - 10 * DAY_MS),
        seen_ms: Some(NOW - 20_000),
        clock_ms: Some(-2_000),
        error: None,
        refused: None,
        acknowledged: 4,
        sighting: Sighting::default(),
        certificates: vec![CertificateFacts { name: "agent".into(), ends_ms: NOW + 90 * DAY_MS }],
        machines: Vec::new(),
        clashes: Vec::new(),
    }
}

fn facts(server: ServerFacts) -> Facts {
    Facts { started_ms: NOW - DAY_MS, servers: vec![server], ..Facts::default() }
}

fn tunnel(id: i64, state: State, since_ms: u64) -> TunnelFacts {
    let (name, error) = (format!("relay-{id}"), (state == State::Lost).then(|| "gone".to_owned()));
    TunnelFacts { id: Id::new(id), name, state, since_ms, error, faults: Vec::new() }
}

fn tunnelled(tunnels: Vec<TunnelFacts>) -> Facts {
    let network = TunnelledFacts {
        id: Id::new(3),
        name: "north".to_owned(),
        organization: Id::new(2),
        servers: 2,
        tunnels: tunnels.iter().map(|tunnel| tunnel.id).collect(),
    };
    Facts { tunnels, tunnelled: vec![network], ..Facts::default() }
}

#[test]
fn a_tunnel_that_is_away_is_told_to_the_panel_and_a_network_without_any_to_its_people() {
    let told = |facts: &Facts| -> Vec<_> {
        let found = alerts(facts, NOW).into_iter();
        found.map(|alert| (alert.key, alert.severity, alert.place, alert.since_ms)).collect()
    };
    let (north, long, short) = (Id::<Network>::new(3).place(), NOW - 10 * MINUTE_MS, NOW - 1_000);
    let there = tunnel(2, State::Connected, long);
    let one_of_two = tunnelled(vec![tunnel(1, State::Lost, long), there]);
    let down = |id: i64| (format!("tunnel-down/{id}"), Severity::Warning, Place::Panel, long);
    assert_eq!(told(&one_of_two), [down(1)]);
    let none = tunnelled(vec![tunnel(1, State::Lost, long), tunnel(2, State::Lost, long)]);
    let nothing = ("no-tunnel/3".to_owned(), Severity::Critical, north, long);
    assert_eq!(told(&none), [nothing.clone(), down(1), down(2)]);
    let words = alerts(&none, NOW)[0].cause.to_string();
    assert_eq!(words, "2 servers can't be reached, for no tunnel of it answers: relay-1, relay-2");
    assert_eq!(told(&tunnelled(vec![tunnel(1, State::Lost, short)])), [], "it may come back");
    // A panel that was started anew still says so, and since when.
    let mut anew = tunnelled(vec![tunnel(1, State::Connecting, NOW)]);
    assert_eq!(told(&anew), []);
    let before = alerts(&tunnelled(vec![tunnel(1, State::Lost, long)]), NOW).into_iter();
    anew.standing = before.map(|alert| (alert.key.clone(), alert)).collect();
    assert_eq!(told(&anew), [nothing, down(1)]);
}

#[test]
fn what_a_tunnel_says_of_itself_is_told_and_so_is_that_it_cannot_be_told_who_may_come_in() {
    let mut faulty = tunnel(1, State::Connected, NOW - DAY_MS);
    faulty.faults = vec!["its rules are not in force".to_owned(), "sshd is down".to_owned()];
    let words = |tunnel: &TunnelFacts| {
        let facts = Facts { tunnels: vec![tunnel.clone()], ..Facts::default() };
        alerts(&facts, NOW).into_iter().map(|alert| alert.cause.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(words(&faulty), ["its rules are not in force (and 1 more)"]);
    faulty.faults.clear();
    assert!(words(&faulty).is_empty());
    faulty.error = Some("the tunnel says: no".to_owned());
    assert_eq!(words(&faulty), ["the tunnel says: no"]);
}

fn boots(boots: Vec<BootFacts>) -> Facts {
    let (name, organization) = ("north".to_owned(), Id::new(2));
    let network = NetworkFacts { id: Id::new(3), name, organization, boots };
    Facts { networks: vec![network], ..Facts::default() }
}

fn boot(device: i64, still_ms: u64, failed: Option<&str>) -> BootFacts {
    BootFacts {
        device: Id::new(device),
        name: format!("pc-{device}"),
        last_ms: NOW - still_ms,
        failed: failed.map(str::to_owned),
    }
}

fn pool(health: &str, used: u64) -> Sighting {
    let pool = PoolSeen { health: health.to_owned(), size_bytes: 100, free_bytes: 100 - used };
    Sighting { pools: [("tank".parse().unwrap(), pool)].into(), ..Sighting::default() }
}

fn some(word: &str) -> BTreeMap<String, String> {
    [(word.to_owned(), "why".to_owned())].into()
}

fn machine(last_seen_ms: u64) -> Machine {
    serde_json::from_value(json!({ "mac": "52:54:00:00:01:63", "address": "10.77.0.20",
        "first_seen_ms": NOW - HOUR_MS, "last_seen_ms": last_seen_ms }))
    .unwrap()
}

/// The key, the severity, and how long it stands.
fn told(facts: &Facts) -> Vec<(String, Severity, u64)> {
    let alerts = alerts(facts, NOW);
    alerts.into_iter().map(|alert| (alert.key, alert.severity, NOW - alert.since_ms)).collect()
}

fn of_server(change: impl FnOnce(&mut ServerFacts)) -> Facts {
    let mut server = sound();
    change(&mut server);
    facts(server)
}

#[test]
fn what_is_sound_is_no_alert() {
    assert_eq!(told(&facts(sound())), []);
    assert_eq!(told(&Facts::default()), []);
    let up = boots(vec![boot(1, BOOT_STUCK_MS - 1, None), boot(2, BOOT_GIVEN_UP_MS, None)]);
    assert_eq!(told(&up), [], "a boot that goes on, and one of a machine that was switched off");
}

#[test]
fn each_trouble_is_told_with_its_weight_and_its_age() {
    use Severity::{Critical, Info, Warning};
    let clash = Clash {
        device: Id::new(20),
        name: "pc-20".into(),
        address: "10.77.0.20".parse().unwrap(),
        mac: "52:54:00:00:01:63".parse().unwrap(),
        seen_ms: NOW - 5,
    };
    let refusal = |generation| Some(Refusal { generation, why: "devices[0]: twice".into() });
    let stranger = |ago| {
        let address = "192.0.2.7".parse().unwrap();
        Some(Stranger { address, reason: "certificate".into(), at_ms: NOW - ago })
    };
    let certificate = |left| vec![CertificateFacts { name: "agent".into(), ends_ms: NOW + left }];
    let ends = |endpoint: &str, left| BTreeMap::from([(endpoint.to_owned(), NOW + left)]);
    let silent = SILENT_MS + 1;
    type Row<'a> = (Facts, &'a [(&'a str, Severity, u64)]);
    let table: Vec<Row> = vec![
        (of_server(|s| (s.seen_ms, s.joined_ms) = (None, None)), &[("never-joined/7", Info, 0)]),
        (
            of_server(|s| (s.seen_ms, s.joined_ms) = (None, Some(NOW - HOUR_MS))),
            &[("never-seen/7", Critical, HOUR_MS)],
        ),
        (of_server(|s| (s.seen_ms, s.joined_ms) = (None, Some(NOW - SILENT_MS))), &[]),
        (of_server(|s| s.seen_ms = Some(NOW - silent)), &[("silent/7", Critical, SILENT_MS + 1)]),
        (of_server(|s| s.seen_ms = Some(NOW - SILENT_MS)), &[]),
        (of_server(|s| s.clock_ms = Some(-60_000)), &[("clock-off/7", Warning, 0)]),
        (of_server(|s| s.clock_ms = Some(59_999)), &[]),
        (of_server(|s| s.refused = refusal(5)), &[("refused/7", Critical, 0)]),
        (of_server(|s| s.refused = refusal(4)), &[]),
        (of_server(|s| s.sighting.stranger = stranger(5)), &[("stranger/7", Warning, 5)]),
        (of_server(|s| s.sighting.stranger = stranger(NEWS_MS + 1)), &[]),
        (
            of_server(|s| (s.sighting.failed, s.sighting.failures) = (1, some("pool tank"))),
            &[("steps-failed/7", Warning, 0)],
        ),
        (of_server(|s| s.sighting = pool("ONLINE", 79)), &[]),
        (of_server(|s| s.sighting = pool("ONLINE", 80)), &[("pool-full/7/tank", Warning, 0)]),
        (of_server(|s| s.sighting = pool("ONLINE", 90)), &[("pool-full/7/tank", Critical, 0)]),
        (of_server(|s| s.sighting = pool("DEGRADED", 1)), &[("pool-unsound/7/tank", Warning, 0)]),
        (of_server(|s| s.sighting = pool("FAULTED", 1)), &[("pool-unsound/7/tank", Critical, 0)]),
        (of_server(|s| s.certificates = certificate(30 * DAY_MS)), &[]),
        (of_server(|s| s.sighting.certificate_ends = ends("api", 30 * DAY_MS)), &[]),
        (
            of_server(|s| {
                // It was given another one, and does not use it.
                s.certificates = certificate(300 * DAY_MS);
                s.sighting.certificate_ends = ends("api", 29 * DAY_MS);
            }),
            &[("certificate-ends/7/agent", Warning, DAY_MS)],
        ),
        (
            of_server(|s| {
                s.certificates = certificate(29 * DAY_MS);
                s.sighting.certificate_ends = ends("api", 300 * DAY_MS);
            }),
            &[],
        ),
        (
            of_server(|s| s.certificates = certificate(29 * DAY_MS)),
            &[("certificate-ends/7/agent", Warning, DAY_MS)],
        ),
        (
            of_server(|s| s.certificates = certificate(6 * DAY_MS)),
            &[("certificate-ends/7/agent", Critical, 24 * DAY_MS)],
        ),
        (
            of_server(|s| s.sighting.certificates = some("boot")),
            &[("certificate-faulty/7/boot", Warning, 0)],
        ),
        (
            of_server(|s| {
                s.sighting.imports.insert("debian".parse().unwrap(), "no route".into());
            }),
            &[("import-failed/7/debian", Warning, 0)],
        ),
        (
            of_server(|s| s.machines = vec![machine(NOW - 5)]),
            &[("machines-waiting/7", Info, HOUR_MS)],
        ),
        (of_server(|s| s.machines = vec![machine(NOW - NEWS_MS)]), &[]),
        (of_server(|s| s.clashes = vec![clash.clone()]), &[("address-clash/20", Warning, 0)]),
        (
            boots(vec![boot(1, BOOT_STUCK_MS, None), boot(2, BOOT_STUCK_MS + 9, None)]),
            &[("boots-stuck/3", Warning, BOOT_STUCK_MS + 9)],
        ),
        (boots(vec![boot(1, HOUR_MS, Some("no disk"))]), &[("boots-failed/3", Warning, HOUR_MS)]),
        (boots(vec![boot(1, NEWS_MS, Some("no disk"))]), &[]),
    ];
    for (facts, expected) in table {
        let expected: Vec<_> =
            expected.iter().map(|(key, weight, age)| ((*key).to_owned(), *weight, *age)).collect();
        assert_eq!(told(&facts), expected, "{facts:#?}");
    }
}

#[test]
fn the_panel_has_troubles_of_its_own() {
    let mut facts = Facts { started_ms: NOW, ..Facts::default() };
    facts.own_certificates =
        vec![CertificateFacts { name: "root".into(), ends_ms: NOW + 29 * DAY_MS }];
    facts.backup = BackupFacts { made_ms: None, worth: true };
    facts.channels = vec![ChannelFacts {
        id: 5,
        name: "mail".into(),
        organization: Id::new(2),
        made_ms: NOW - HOUR_MS,
        attempts: NOTICE_TRIES,
        error: "refused".into(),
    }];
    let keys = |facts: &Facts| -> Vec<_> { told(facts).into_iter().map(|(key, ..)| key).collect() };
    assert_eq!(keys(&facts), ["certificate-ends/root", "notices-fail/5", "backup-never/panel"]);
    facts.backup.made_ms = Some(NOW - BACKUP_MS - 1);
    facts.channels[0].attempts -= 1;
    assert_eq!(keys(&facts), ["certificate-ends/root", "backup-old/panel"]);
    facts.backup.made_ms = Some(NOW - BACKUP_MS);
    assert_eq!(keys(&facts), ["certificate-ends/root"]);
    facts.backup = BackupFacts::default();
    assert_eq!(keys(&facts), ["certificate-ends/root"], "there is nothing to lose");
}

/// What stood keeps its beginning, whoever looks and however late.
#[test]
fn an_alert_is_as_old_as_it_was_after_a_restart() {
    let mut facts = of_server(|s| s.sighting = pool("DEGRADED", 85));
    let first = alerts(&facts, NOW);
    assert!(first.iter().all(|alert| alert.since_ms == NOW));
    facts.standing = first.iter().map(|alert| (alert.key.clone(), alert.clone())).collect();
    facts.started_ms = NOW + HOUR_MS;
    let later = alerts(&facts, NOW + HOUR_MS + 5);
    // Silent it is by then, but nobody looked.
    assert_eq!(later, first);
    let much_later = alerts(&facts, NOW + 2 * HOUR_MS);
    assert_eq!(much_later.len(), first.len() + 1);
    assert_eq!(much_later[0].key, "silent/7");
    assert_eq!(much_later[0].since_ms, NOW - 20_000, "when it answered last");
}

#[test]
fn a_server_that_was_silent_before_a_restart_is_silent_after_it() {
    let mut facts = of_server(|s| s.seen_ms = Some(NOW - HOUR_MS));
    let before = alerts(&facts, NOW);
    assert_eq!(before.len(), 1);
    facts.started_ms = NOW;
    assert_eq!(alerts(&facts, NOW + 1), [], "nobody has looked for it yet");
    facts.standing = before.iter().map(|alert| (alert.key.clone(), alert.clone())).collect();
    assert_eq!(alerts(&facts, NOW + 1), before);
}

#[test]
fn a_pool_at_the_mark_is_not_told_of_again_and_again() {
    use Severity::{Critical, Warning};
    for (percent, before, expected) in [
        (79, None, None),
        (79, Some(Warning), Some(Warning)),
        (77, Some(Warning), None),
        (89, Some(Warning), Some(Warning)),
        (89, Some(Critical), Some(Critical)),
        (87, Some(Critical), Some(Warning)),
        (77, Some(Critical), None),
        (100, None, Some(Critical)),
    ] {
        assert_eq!(fullness(percent, before), expected, "{percent} {before:?}");
    }
}

#[test]
fn a_clock_that_is_wrong_here_makes_nothing_begin_in_the_future() {
    let facts = of_server(|s| s.machines = vec![machine(NOW + DAY_MS)]);
    let early = alerts(&facts, NOW - DAY_MS);
    assert_eq!(early[0].since_ms, NOW - DAY_MS);
}

#[test]
fn a_cause_is_a_sentence() {
    let many: Vec<_> = (1..=5).map(|number| (number, format!("pc-{number}"))).collect();
    let stuck = Cause::BootsStuck { count: 7, devices: many };
    assert_eq!(
        stuck.to_string(),
        "7 devices stand still in the boot: pc-1, pc-2, pc-3, pc-4, pc-5 and 2 more"
    );
    let one = Cause::BootsStuck { count: 1, devices: vec![(1, "pc-1".into())] };
    assert_eq!(one.to_string(), "1 device stands still in the boot: pc-1");
    let off = Cause::ClockOff { ahead_ms: -7_200_000 };
    assert_eq!(off.to_string(), "its clock is 2 hours behind");
    let silent = Cause::Silent { seen_ms: 1, error: Some("no route".into()) };
    assert_eq!(silent.to_string(), "it does not answer: no route");
    let json = serde_json::to_value(&silent).unwrap();
    assert_eq!(json["cause"], silent.word());
}
