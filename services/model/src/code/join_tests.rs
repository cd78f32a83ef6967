use super::*;

const ROOT: [u8; 32] = [
    0x9f, 0xaf, 0x71, 0x7b, 0x7f, 0x8c, 0xa2, 0xf9, 0x3c, 0x25, 0x6c, 0x79, 0xf8, 0xac, 0x55, 0x91,
    0x89, 0x5d, 0x66, 0xd1, 0xff, 0x3b, 0xee, 0x63, 0x97, 0xa7, 0x0d, 0x29, 0xc6, 0x5e, 0xed, 0x1a,
];

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn code(way: Way, host: &str, port: u16) -> JoinCode {
    let host = Host::try_from(host.to_owned()).unwrap();
    let now = at(1_795_000_000);
    let address = Address { host, port };
    let secret = JoinSecret::new([0, 1, 127, 128, 200, 254, 255, 9]);
    JoinCode::new(way, address, &ROOT, secret, now, Duration::from_secs(24 * 3600))
}

fn same(read: &JoinCode, made: &JoinCode) -> bool {
    read.way == made.way
        && read.address == made.address
        && read.expires == made.expires
        && read.secret.is(&made.secret)
}

#[test]
fn a_code_says_what_was_put_into_it() {
    for (way, host, port) in [
        (Way::Panel, "192.0.2.7", 443),
        (Way::Tunnel, "192.0.2.7", 8443),
        (Way::Panel, "2001:db8::7", 443),
        (Way::Tunnel, "relay.school.example", 22),
        (Way::Panel, "panel.school.example", 1),
    ] {
        let made = code(way, host, port);
        let whole = JoinCode::parse(made.text().unwrap().expose_secret()).unwrap();
        assert!(same(&whole, &made) && whole.root == made.root, "{whole:?}");
        let typed = JoinCode::parse(made.typed().unwrap().expose_secret()).unwrap();
        assert!(same(&typed, &made) && typed.root == Pin::Typed(*ROOT.first_chunk().unwrap()));
    }
}

#[test]
fn a_typed_code_has_twelve_groups_for_an_address() {
    let text = code(Way::Panel, "192.0.2.7", 443).typed().unwrap();
    assert_eq!(text.expose_secret().split('-').count(), 12);
}

#[test]
fn a_pin_matches_the_root_alone() {
    let made = code(Way::Panel, "192.0.2.7", 443);
    let typed = JoinCode::parse(made.typed().unwrap().expose_secret()).unwrap();
    for pin in [made.root, typed.root] {
        assert!(pin.matches(&ROOT));
        let mut other = ROOT;
        other[11] ^= 1;
        assert!(!pin.matches(&other), "{pin:?}");
    }
    let mut end = ROOT;
    end[31] ^= 1;
    assert!(!made.root.matches(&end) && typed.root.matches(&end));
}

#[test]
fn a_code_expires_in_time_and_never_later_than_was_asked() {
    let made = code(Way::Panel, "192.0.2.7", 443);
    let asked = at(1_795_000_000 + 24 * 3600);
    assert!(made.expired(asked) && !made.expired(asked - Duration::from_secs(60)));
}

#[test]
fn what_is_not_a_join_code_is_told_from_one_that_is_mistyped() {
    let parse = |bytes: &[u8]| JoinCode::parse(&alphabet::encode(bytes)).unwrap_err();
    assert_eq!(parse(&[0; 29]), Error::Kind);
    assert_eq!(parse(&[VERSION | 3; 60]), Error::Kind);
    assert_eq!(parse(&[VERSION; 20]), Error::Content("length"));
    assert_eq!(parse(&[VERSION; 30]), Error::Content("end"));
    let dns = [&[VERSION | DNS; 25][..], &[3], b"a b"].concat();
    assert_eq!(parse(&dns), Error::Content("name of the host"));
    let text = code(Way::Panel, "192.0.2.7", 443).typed().unwrap();
    let text = text.expose_secret();
    let swapped = if text.starts_with('8') { "9" } else { "8" };
    let wrong = JoinCode::parse(&format!("{swapped}{}", &text[1..])).unwrap_err();
    assert_eq!(wrong, Error::Typed(alphabet::Error::Group(1)));
}

#[test]
fn a_code_is_not_printed() {
    let made = code(Way::Panel, "192.0.2.7", 443);
    let shown = format!("{made:?}");
    let secret = made.secret.text();
    assert!(shown.contains("[REDACTED]") && !shown.contains(secret.expose_secret()), "{shown}");
    assert!(!shown.contains("127, 128, 200"), "{shown}");
}

#[test]
fn a_code_is_read_from_the_table_of_a_seed_file() {
    let made = code(Way::Panel, "panel.example", 443);
    let text = made.text().unwrap();
    let read: JoinCode = serde_json::from_value(text.expose_secret().into()).unwrap();
    assert!(same(&read, &made));
    let wrong = serde_json::from_value::<JoinCode>("ABCDE".into()).unwrap_err().to_string();
    assert!(wrong.contains("the code can't be read"), "{wrong}");
}

#[test]
fn an_address_is_read_as_it_is_written() {
    for text in ["192.0.2.7:22", "[2001:db8::7]:22", "relay.example:2022"] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
    }
    for text in ["192.0.2.7", "2001:db8::7:22", "[192.0.2.7]:22", "a b:22", "relay:0", ":22"] {
        assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
    }
}
