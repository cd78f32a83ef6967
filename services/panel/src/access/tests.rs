use super::*;

/// Written by hand from what people expect, not from [`least`]. Columns: member, viewer, technician, admin of the network,
/// organization admin, superadmin. Letters: what they may do (r, c, h = change, d).
const EXPECTED: [(Noun, [&str; 6]); 11] = [
    (Noun::Organization, ["r", "r", "r", "r", "r", "rchd"]),
    (Noun::User, ["", "", "", "", "rchd", "rchd"]),
    (Noun::Network, ["", "r", "r", "rh", "rchd", "rchd"]),
    (Noun::Subnet, ["", "r", "r", "rchd", "rchd", "rchd"]),
    (Noun::Tunnel, ["r", "r", "r", "r", "r", "rchd"]),
    (Noun::Server, ["", "r", "r", "rchd", "rchd", "rchd"]),
    (Noun::Volume, ["", "r", "r", "rchd", "rchd", "rchd"]),
    (Noun::Group, ["", "r", "r", "rchd", "rchd", "rchd"]),
    (Noun::Vdisk, ["", "r", "rchd", "rchd", "rchd", "rchd"]),
    (Noun::Menu, ["", "r", "r", "rchd", "rchd", "rchd"]),
    (Noun::Device, ["", "r", "rchd", "rchd", "rchd", "rchd"]),
];

const HERE: i64 = 1;
const ELSEWHERE: i64 = 2;

fn people() -> [Standings; 6] {
    let person = |standing, role: Option<Role>| Standings {
        user: None,
        name: String::new(),
        standing,
        organization: Some(Id::new(HERE)),
        roles: role.into_iter().map(|role| (Id::new(HERE), role)).collect(),
        limit: None,
    };
    [
        person(Standing::Member, None),
        person(Standing::Member, Some(Role::Viewer)),
        person(Standing::Member, Some(Role::Technician)),
        person(Standing::Member, Some(Role::Admin)),
        person(Standing::OrganizationAdmin, None),
        person(Standing::Superadmin, None),
    ]
}

/// Where a record of this kind lives, in organization and network number `at`.
fn place(noun: Noun, verb: Verb, at: i64) -> (Place, Option<Id<Organization>>) {
    match noun {
        Noun::Tunnel => (Place::Panel, None),
        Noun::Organization if verb == Verb::Create => (Place::Panel, None),
        Noun::Organization | Noun::User => (Place::Organization(Id::new(at)), None),
        Noun::Network if verb == Verb::Create => (Place::Organization(Id::new(at)), None),
        _ => (Place::Network(Id::new(at)), Some(Id::new(at))),
    }
}

#[test]
fn every_role_may_do_what_is_expected_of_it_at_home_and_nothing_elsewhere() {
    assert_eq!(EXPECTED.map(|(noun, _)| noun), Noun::ALL);
    for (noun, letters) in EXPECTED {
        for (person, expected) in people().iter().zip(letters) {
            for (verb, letter) in Verb::ALL.into_iter().zip(['r', 'c', 'h', 'd']) {
                let (home, owner) = place(noun, verb, HERE);
                let who = format!("{person:?} {verb:?} {noun:?}");
                assert_eq!(person.may(verb, noun, home, owner), expected.contains(letter), "{who}");
                let (away, owner) = place(noun, verb, ELSEWHERE);
                if person.standing != Standing::Superadmin && away != Place::Panel {
                    assert!(!person.may(verb, noun, away, owner), "elsewhere: {who}");
                }
            }
        }
    }
}

/// Columns and letters as above; an alert at each of its places.
const MATTERS: [(Matter, Place, [&str; 6]); 5] = [
    (Matter::Alert, Place::Network(Id::new(HERE)), ["", "r", "r", "r", "r", "rchd"]),
    (Matter::Alert, Place::Organization(Id::new(HERE)), ["", "", "", "", "r", "rchd"]),
    (Matter::Alert, Place::Panel, ["", "", "", "", "", "rchd"]),
    (Matter::Channel, Place::Organization(Id::new(HERE)), ["", "", "", "", "rchd", "rchd"]),
    (Matter::Settings, Place::Panel, ["", "", "", "", "", "rchd"]),
];

#[test]
fn every_role_has_its_part_in_what_is_no_record_and_none_elsewhere() {
    for matter in Matter::ALL {
        assert!(MATTERS.iter().any(|(known, ..)| *known == matter), "{matter:?}");
    }
    for (matter, home, letters) in MATTERS {
        let away = match home {
            Place::Panel => None,
            Place::Organization(_) => Some(Place::Organization(Id::new(ELSEWHERE))),
            Place::Network(_) => Some(Place::Network(Id::new(ELSEWHERE))),
        };
        for (person, expected) in people().iter().zip(letters) {
            for (verb, letter) in Verb::ALL.into_iter().zip(['r', 'c', 'h', 'd']) {
                let who = format!("{person:?} {verb:?} {matter:?}");
                let may = person.may_in(verb, matter, home, Some(Id::new(HERE)));
                assert_eq!(may, expected.contains(letter), "{who}");
                if let Some(away) = away.filter(|_| person.standing != Standing::Superadmin) {
                    let may = person.may_in(verb, matter, away, Some(Id::new(ELSEWHERE)));
                    assert!(!may, "elsewhere: {who}");
                }
            }
        }
    }
}

#[test]
fn a_token_counts_for_no_more_than_its_limit() {
    let [.., mut admin] = people();
    let home = Place::Network(Id::new(HERE));
    let owner = Some(Id::new(HERE));
    admin.limit = Some(Limit { most: Rank::Viewer, network: None });
    assert!(admin.may(Verb::Read, Noun::Device, home, owner));
    assert!(!admin.may(Verb::Change, Noun::Device, home, owner));
    admin.limit = Some(Limit { most: Rank::Superadmin, network: Some(Id::new(ELSEWHERE)) });
    assert!(!admin.may(Verb::Read, Noun::Device, home, owner));
    assert!(!admin.may(Verb::Read, Noun::User, Place::Organization(Id::new(HERE)), None));
}
