use super::*;

fn rule(protocol: Protocol, verdict: Verdict) -> Rule {
    Rule { source: None, loopback: None, protocol, owner: None, verdict }
}

fn chains() -> Chains {
    let to = |net: &str| Rule {
        source: Some(net.parse().unwrap()),
        ..rule(Protocol::Tcp { ports: (8444, 8444) }, Verdict::Return)
    };
    let agents = Some(Owner::Is(209_999, 259_999));
    Chains {
        input: vec![
            to("10.1.2.3/24"),
            to("0.0.0.0/0"),
            to("2001:db8::7/128"),
            rule(Protocol::Tcp { ports: (8444, 8444) }, Verdict::Reject),
            Rule {
                loopback: Some(Loopback::Beside),
                ..rule(Protocol::TcpOpening { ports: None }, Verdict::Reject)
            },
        ],
        output: vec![
            Rule {
                loopback: Some(Loopback::Over),
                owner: Some(Owner::IsNot(500)),
                ..rule(Protocol::TcpOpening { ports: Some((10_000, 59_999)) }, Verdict::Reject)
            },
            Rule { owner: agents, ..rule(Protocol::TcpOpening { ports: None }, Verdict::Reject) },
            Rule { owner: agents, ..rule(Protocol::NotTcp, Verdict::Reject) },
        ],
    }
}

/// `iptables-restore --noflush` of `restore.txt` in a new network namespace, then `iptables-save -t filter`; both of 1.8.11.
fn saved(family: Family) -> &'static str {
    match family {
        Family::V4 => include_str!("../../testdata/iptables/save-v4.txt"),
        Family::V6 => include_str!("../../testdata/iptables/save-v6.txt"),
    }
}

#[test]
fn what_was_put_there_is_found_there_and_nothing_is_planned() {
    for family in Family::BOTH {
        assert_eq!(plan(&chains(), &parse(saved(family)).unwrap(), family), None);
    }
}

#[test]
fn a_machine_without_rules_gets_all_in_one_transaction() {
    let planned = plan(&chains(), &Observed::default(), Family::V4);
    assert_eq!(planned.as_deref(), Some(include_str!("../../testdata/iptables/restore-v4.txt")));
    let planned = plan(&chains(), &Observed::default(), Family::V6);
    assert_eq!(planned.as_deref(), Some(include_str!("../../testdata/iptables/restore-v6.txt")));
}

/// What is planned when a line of the machine's rules is another.
fn planned(from: &str, to: &str) -> String {
    let text = saved(Family::V4);
    assert!(text.contains(from), "{from}");
    plan(&chains(), &parse(&text.replacen(from, to, 1)).unwrap(), Family::V4).unwrap()
}

#[test]
fn a_rule_that_was_taken_out_brings_its_whole_chain_back_and_leaves_the_other() {
    let gone = "-A CLUSTERDUCKS-INPUT -p tcp -m tcp --dport 8444 -j RETURN\n";
    let script = planned(gone, "");
    assert!(script.contains(":CLUSTERDUCKS-INPUT - [0:0]\n-A CLUSTERDUCKS-INPUT -s 10.1.2.0/24"));
    assert!(script.contains(gone), "{script}");
    assert!(!script.contains("OUTPUT"), "{script}");
}

#[test]
fn our_jump_is_the_first_and_the_only_one() {
    let jump = "-A OUTPUT -j CLUSTERDUCKS-OUTPUT\n";
    let lines = |script: &str| script.lines().map(str::to_owned).collect::<Vec<_>>();
    let delete = "-D OUTPUT -j CLUSTERDUCKS-OUTPUT";
    let insert = "-I OUTPUT -j CLUSTERDUCKS-OUTPUT";
    assert_eq!(lines(&planned(jump, "")), ["*filter", insert, "COMMIT"]);
    let late = planned(jump, &format!("-A OUTPUT -j ACCEPT\n{jump}"));
    assert_eq!(lines(&late), ["*filter", delete, insert, "COMMIT"]);
    let twice = planned(jump, &format!("{jump}{jump}"));
    assert_eq!(lines(&twice), ["*filter", delete, delete, insert, "COMMIT"]);
}

#[test]
fn a_stray_chain_of_ours_goes_and_somebody_elses_stays() {
    let script = planned(
        "*filter\n",
        "*filter\n:CLUSTERDUCKS-OLD - [0:0]\n:DOCKER - [0:0]\n-A CLUSTERDUCKS-OLD -j RETURN\n-A DOCKER -j RETURN\n",
    );
    assert_eq!(script, "*filter\n:CLUSTERDUCKS-OLD - [0:0]\n-X CLUSTERDUCKS-OLD\nCOMMIT\n");
}

#[test]
fn a_line_that_is_none_of_iptables_save_is_an_error_that_quotes_it() {
    let error = parse("*filter\nsegmentation fault\n").unwrap_err();
    assert!(matches!(&error, Error::Line { line } if line == "segmentation fault"), "{error}");
}
