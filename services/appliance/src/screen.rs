//! The text on a box's screen and serial port: facts in, lines out. Every line is printable ASCII and fits a screen of 80 by 25;
//! nothing is written here.

use model::observed::Link;

use crate::facts::{Door, Facts, Health, Standing};

/// A text screen of the firmware's (VGA mode 3); the last column and the last line stay free, because a terminal that is full
/// goes on to the next.
const COLUMNS: usize = 79;
const LINES: usize = 24;

/// Where the values of the list begin.
const INDENT: usize = 14;
/// More than these are counted, not listed.
const LISTED: usize = 4;

/// The page.
pub fn render(facts: &Facts) -> Vec<String> {
    let mut page = Page::default();
    page.line(&format!("clusterducks {} {}", facts.kind, facts.version));
    page.blank();
    page.item("Name", &facts.name);
    let unknown = || vec!["not known".to_owned()];
    page.items("Addresses", facts.links.as_deref().map_or_else(unknown, addresses));
    if let Some(standing) = &facts.standing {
        page.item("State", &standing.to_string());
    }
    if let Some(relay) = &facts.relay {
        page.item(
            "State",
            &match &relay.name {
                Some(name) => format!("paired with a panel as {name}"),
                None => "waiting to be paired with a panel".to_owned(),
            },
        );
        page.item("Host key", relay.host_key.as_deref().unwrap_or("none yet"));
        for fault in &relay.faults {
            page.item("Fault", fault);
        }
    }
    page.item("Health", &health(&facts.health));
    if let Some(code) = facts.relay.as_ref().and_then(|relay| relay.code.as_ref()) {
        page.offer(facts, code);
    }
    if let (Some(standing), Some(door)) = (&facts.standing, &facts.door)
        && standing.wants_code()
    {
        page.invite(facts, standing, door);
    }
    page.lines
}

fn addresses(links: &[Link]) -> Vec<String> {
    let of_link = |link: &Link| {
        let note = if link.carrier { "" } else { ", no cable or nobody at its other end" };
        let name = &link.name;
        link.addresses.iter().map(|net| format!("{net} ({name}{note})")).collect::<Vec<_>>()
    };
    let mut list: Vec<String> = links.iter().flat_map(of_link).collect();
    if list.is_empty() {
        list.push(match links {
            [] => "none: the kernel found no network card".to_owned(),
            links if links.iter().any(|link| link.carrier) => {
                "none yet: nobody has given one by DHCP".to_owned()
            }
            _ => "none: no network cable is connected".to_owned(),
        });
    }
    list
}

fn health(health: &Health) -> String {
    match (health.unknown.as_slice(), health.failed.as_slice()) {
        ([], []) => "good".to_owned(),
        ([], [one]) => format!("{one} has failed"),
        ([], several) => {
            let shown: Vec<&str> = several.iter().take(LISTED).map(String::as_str).collect();
            let more = several.len().saturating_sub(LISTED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("{} units have failed: {}{more}", several.len(), shown.join(", "))
        }
        (unknown, _) => format!("not known: {}", unknown.join("; ")),
    }
}

#[derive(Default)]
struct Page {
    lines: Vec<String>,
}

impl Page {
    fn invite(&mut self, facts: &Facts, standing: &Standing, door: &Door) {
        let Some(address) = facts.address() else { return };
        self.blank();
        self.line(match standing {
            Standing::Alone => {
                "To join a panel, choose \"Add server\" there and bring the join code to"
            }
            _ => "To try another join code, bring it to",
        });
        self.line(&format!("    https://{address}:{}", door.port));
        self.line("Its certificate has the SHA-256 fingerprint");
        for half in halves(&door.fingerprint) {
            self.line(&format!("    {half}"));
        }
        self.line("The page asks for the code of this box too:");
        self.line(&format!("    {}", door.code));
    }

    fn offer(&mut self, facts: &Facts, code: &str) {
        let Some(address) = facts.address() else { return };
        self.blank();
        self.line(
            "To pair it, choose \"New tunnel\" in the panel. The panel asks for its address,",
        );
        self.line(&format!("    {address}"));
        self.line("or the name that it is reached by, and for this code:");
        self.line(&format!("    {code}"));
    }

    fn blank(&mut self) {
        self.push(String::new());
    }

    fn line(&mut self, text: &str) {
        self.push(printable(text).chars().take(COLUMNS).collect());
    }

    fn push(&mut self, line: String) {
        if self.lines.len() < LINES {
            self.lines.push(line);
        }
    }

    fn item(&mut self, word: &str, value: &str) {
        let mut word = word;
        for line in wrap(&printable(value), COLUMNS - INDENT).iter().take(LISTED) {
            self.push(format!("  {word:<width$}{line}", width = INDENT - 2));
            word = "";
        }
    }

    fn items(&mut self, word: &str, values: Vec<String>) {
        let more = values.len().saturating_sub(LISTED);
        let mut word = word;
        for value in values.iter().take(LISTED) {
            self.item(word, value);
            word = "";
        }
        if more > 0 {
            self.item("", &format!("and {more} more"));
        }
    }
}

/// What others sent stays on its line and moves no cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// Lines of whole words; a word that is longer than a line is cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let mut rest = word;
        while let Some((part, after)) = rest.split_at_checked(width).filter(|_| rest.len() > width)
        {
            lines.push(part.to_owned());
            rest = after;
        }
        match lines.last_mut().filter(|line| line.len() + 1 + rest.len() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(rest);
            }
            None => lines.push(rest.to_owned()),
        }
    }
    lines
}

/// A fingerprint in two lines, each of whole pairs.
fn halves(fingerprint: &str) -> [&str; 2] {
    let middle = fingerprint.len() / 2;
    match fingerprint.split_at_checked(middle) {
        Some((first, second)) => [first, second.trim_start_matches(':')],
        None => [fingerprint, ""],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Kind, Relay};

    fn link(name: &str, addresses: &[&str], carrier: bool) -> Link {
        Link {
            name: name.to_owned(),
            mac: "52:54:00:00:00:01".parse().unwrap(),
            path: None,
            up: true,
            carrier,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            gateway: None,
            lease: None,
        }
    }

    fn facts(standing: Standing) -> Facts {
        Facts {
            kind: Kind::Agent,
            version: "0.1.0".to_owned(),
            name: "server-01".to_owned(),
            links: Some(vec![
                link("enp1s0", &["192.0.2.10/24"], true),
                link("enp2s0", &["10.77.0.1/24"], false),
            ]),
            standing: Some(standing),
            relay: None,
            door: Some(Door {
                port: 8006,
                fingerprint: ["AB"; 32].join(":"),
                code: "7ZQ4M-0KXYP".to_owned(),
            }),
            health: Health::default(),
        }
    }

    fn text(facts: &Facts) -> String {
        render(facts).iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_box_that_nobody_joined_says_how() {
        assert_eq!(text(&facts(Standing::Alone)), include_str!("../testdata/alone.txt"));
    }

    fn tunnel(name: Option<&str>, code: Option<&str>) -> Facts {
        let relay = Relay {
            name: name.map(str::to_owned),
            code: code.map(str::to_owned),
            host_key: Some("SHA256:6UuTz1xPDNXmpIBpEHxkFVUzC9fSBXtSBAxHkM1rAeE".to_owned()),
            faults: Vec::new(),
        };
        let door = None;
        Facts {
            kind: Kind::Tunnel,
            standing: None,
            relay: Some(relay),
            door,
            ..facts(Standing::Alone)
        }
    }

    #[test]
    fn a_tunnel_that_is_nobodys_shows_its_code_and_a_paired_one_whose_it_is() {
        let code = "C00G4-0R40H-1C0J4-2GA1D-M7R3T-12345-67890-ABCDE-FGHJ0";
        let alone = text(&tunnel(None, Some(code)));
        assert_eq!(alone, include_str!("../testdata/unpaired.txt"));
        let paired = text(&tunnel(Some("relay"), None));
        assert_eq!(paired, include_str!("../testdata/paired.txt"));
    }

    #[test]
    fn a_joined_box_has_no_code_on_its_screen() {
        let joined = Standing::Joined {
            panel: "panel.school.example:443".to_owned(),
            name: "server-01".to_owned(),
        };
        let mut facts = facts(joined);
        facts.health.failed = ["a", "b", "c", "d", "e"].map(|u| format!("{u}.service")).into();
        assert_eq!(text(&facts), include_str!("../testdata/joined.txt"));
    }

    #[test]
    fn a_refused_box_says_why_and_how_to_go_on() {
        let why = "the panel 192.0.2.7:443 refused: the code was used already; make a new one by \
                   \"Add server\"";
        let facts = facts(Standing::Failed { why: why.to_owned() });
        assert_eq!(text(&facts), include_str!("../testdata/failed.txt"));
    }

    #[test]
    fn a_box_without_an_address_says_what_it_lacks_and_invites_nobody() {
        let mut facts = facts(Standing::Alone);
        for (links, said) in [
            (vec![], "none: the kernel found no network card"),
            (vec![link("enp1s0", &[], false)], "none: no network cable is connected"),
            (vec![link("enp1s0", &[], true)], "none yet: nobody has given one by DHCP"),
        ] {
            facts.links = Some(links);
            let text = text(&facts);
            assert!(text.contains(said) && !text.contains("https://"), "{text}");
        }
    }

    #[test]
    fn nobody_is_sent_to_a_card_without_a_cable_where_another_has_one() {
        let mut facts = facts(Standing::Alone);
        facts.links.as_mut().unwrap().reverse();
        assert!(text(&facts).contains("https://192.0.2.10:8006\n"));
        facts.links.as_mut().unwrap().truncate(1);
        assert!(text(&facts).contains("https://10.77.0.1:8006\n"));
    }

    #[test]
    fn what_can_t_be_looked_at_is_not_shown_as_good_or_missing() {
        let mut facts = facts(Standing::Alone);
        facts.links = None;
        facts.health.unknown = vec!["systemd does not answer".to_owned()];
        let text = text(&facts);
        assert!(text.contains("Addresses   not known\n"), "{text}");
        assert!(text.contains("Health      not known: systemd does not answer\n"), "{text}");
    }

    #[test]
    fn whatever_the_facts_the_page_is_ascii_and_fits() {
        let trouble = Some("\x1b[2Jw\u{f6}rter ".repeat(200) + &"x".repeat(300));
        let mut facts = facts(Standing::Asking { panel: "p".repeat(300), trouble });
        facts.name = "n".repeat(500);
        let many = (0..40).map(|n| link(&format!("enp{n}s0"), &[&format!("10.0.{n}.1/24")], false));
        facts.links = Some(many.collect());
        facts.health.failed = (0..500).map(|n| format!("unit-{n}.service\r\n")).collect();
        let lines = render(&facts);
        assert!(lines.len() <= LINES, "{}", lines.len());
        for line in lines {
            assert!(line.len() <= COLUMNS, "{line}");
            assert!(line.chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{line:?}");
        }
    }
}
