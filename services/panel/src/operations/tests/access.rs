//! Who may do what, asked of the operations themselves.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::*;
use crate::{
    access::{Limit, Rank},
    noun::{Device, Group, Menu, Network, Organization, Server, Subnet, Tunnel, Vdisk, Volume},
    store::{Digest, Tx},
    testing::{ROOT, Rig, device, fields, rig, value},
};

#[test]
fn nobody_makes_himself_more_than_he_is() {
    let rig = rig();
    let admin = rig.user("olga", "organization-admin", None);
    let Actor::User(id) = admin else { unreachable!() };
    let mut olga = rig.panel.get(admin, id).unwrap();
    olga.value.standing = Standing::Superadmin;
    assert_eq!(fields(rig.panel.change(admin, id, olga.version, olga.value)), ["standing"]);
    let Actor::User(root) = rig.user("root", "superadmin", None) else { unreachable!() };
    let mut user = rig.panel.get(admin, root).unwrap();
    user.value.disabled = true;
    assert!(
        fields(rig.panel.change(admin, root, 1, user.value.clone()))
            .contains(&"standing".to_owned())
    );
    assert_eq!(fields(rig.panel.delete(admin, root, 1, Data::Keep)), ["standing"]);
    assert_eq!(fields(rig.panel.change(ROOT, root, 1, user.value)), ["standing"], "the last one");
    let at_panel: User = value(json!({ "name": "x", "full_name": "x", "standing": "superadmin" }));
    let refused = rig.panel.create(admin, Place::Panel, at_panel);
    assert!(matches!(refused, Err(Error::NotFound { noun: Noun::User })), "{refused:?}");
}

#[test]
fn a_user_who_is_disabled_or_gone_is_signed_out_at_once() {
    let rig = rig();
    let actor = rig.user("vera", "member", Some("viewer"));
    let Actor::User(id) = actor else { unreachable!() };
    rig.panel.get(actor, rig.network).unwrap();
    let mut user = rig.panel.get(ROOT, id).unwrap();
    user.value.roles.clear();
    let user = rig.panel.change(ROOT, id, 1, user.value).unwrap();
    assert!(matches!(rig.panel.get(actor, rig.network), Err(Error::NotFound { .. })));
    let mut value = user.value;
    value.disabled = true;
    rig.panel.change(ROOT, id, 2, value).unwrap();
    assert!(matches!(rig.panel.get(actor, rig.network), Err(Error::SignedOut)));
}

/// One operation tried by somebody; what it did is taken back.
fn outcome<T: Kind>(rig: &Rig, actor: Actor, id: Id<T>, parent: Place, fresh: &T) -> String {
    let mut done = String::new();
    let mut note = |letter: char, result: Result<(), Error>| match result {
        Ok(()) | Err(Error::InUse { .. } | Error::Invalid(_)) => done.push(letter),
        Err(Error::Forbidden { .. } | Error::NotFound { .. }) => {}
        Err(other) => panic!("{} {actor:?}: {other:?}", T::NOUN),
    };
    note('r', rig.panel.get(actor, id).map(drop));
    note('c', rig.panel.try_out(actor, |work| work.create(parent, fresh).map(drop)));
    let stored = rig.panel.get(ROOT, id).unwrap();
    note(
        'h',
        rig.panel.try_out(actor, |work| work.change(id, stored.version, &stored.value).map(drop)),
    );
    note('d', rig.panel.try_out(actor, |work| work.delete(id, stored.version, Data::Keep)));
    let listed = rig.panel.list::<T>(actor, &ListQuery::default()).unwrap();
    let sees = listed.rows.iter().any(|row| row.id == id);
    assert_eq!(sees, done.contains('r'), "{}: the list and the page differ for {actor:?}", T::NOUN);
    done
}

/// The same expectation as the table's own test, now of the operations as they are.
#[test]
fn every_operation_asks_the_table() {
    let rig = rig();
    let tunnel: Tunnel = value(json!({ "name": "t1", "host": "relay.example.org", "port": 22 }));
    let tunnel = rig.panel.create(ROOT, Place::Panel, tunnel).unwrap();
    rig.panel
        .create::<User>(
            ROOT,
            Place::Panel,
            value(json!({ "name": "root", "full_name": "R", "standing": "superadmin" })),
        )
        .unwrap();
    let other: Organization = value(json!({ "name": "Elsewhere" }));
    let elsewhere = Place::Organization(rig.panel.create(ROOT, Place::Panel, other).unwrap().id);
    let stranger: User =
        value(json!({ "name": "stranger", "full_name": "S", "standing": "organization-admin" }));
    let stranger = Actor::User(rig.panel.create(ROOT, elsewhere, stranger).unwrap().id);
    let Actor::User(user) = rig.user("someone", "member", None) else { unreachable!() };
    let kept = rig.add(device(10));
    let tx_find = |tx: Tx<'_>| -> Result<_, store::Error> {
        let at = rig.at();
        Ok((
            tx.find::<Volume>(at, "debian")?.unwrap(),
            tx.find::<Vdisk>(at, "home-01")?.unwrap(),
            tx.find::<Menu>(at, "main")?.unwrap(),
        ))
    };
    let (volume, vdisk, menu) = rig.panel.store.read(tx_find).unwrap();
    let walk = |actor: Actor| -> Vec<String> {
        let at = rig.at();
        vec![
            outcome::<Organization>(
                &rig,
                actor,
                rig.organization,
                Place::Panel,
                &value(json!({ "name": "New" })),
            ),
            outcome::<User>(
                &rig,
                actor,
                user,
                rig.home(),
                &value(json!({ "name": "new", "full_name": "N", "standing": "member" })),
            ),
            outcome::<Network>(
                &rig,
                actor,
                rig.network,
                rig.home(),
                &value(json!({ "name": "new" })),
            ),
            outcome::<Subnet>(
                &rig,
                actor,
                rig.subnet.id,
                at,
                &value(json!({ "name": "new", "subnet": "10.9.0.0/24" })),
            ),
            outcome::<Tunnel>(
                &rig,
                actor,
                tunnel.id,
                Place::Panel,
                &value(json!({ "name": "new", "host": "h", "port": 22 })),
            ),
            outcome::<Server>(
                &rig,
                actor,
                rig.server.id,
                at,
                &value(json!({ "name": "new", "role": "compute" })),
            ),
            outcome::<Volume>(
                &rig,
                actor,
                volume,
                at,
                &value(json!({ "name": "new", "pool": "tank", "size_bytes": 1 << 20 })),
            ),
            outcome::<Group>(
                &rig,
                actor,
                rig.group.id,
                at,
                &value(
                    json!({ "name": "new", "volume": "debian", "generations": [1], "production": 1 }),
                ),
            ),
            outcome::<Vdisk>(
                &rig,
                actor,
                vdisk,
                at,
                &value(
                    json!({ "name": "new", "server": "agent-1", "pool": "tank", "size_bytes": 1 << 20 }),
                ),
            ),
            outcome::<Menu>(
                &rig,
                actor,
                menu,
                at,
                &value(
                    json!({ "name": "new", "title": "x", "entries": [{ "label": "x", "action": "image" }] }),
                ),
            ),
            outcome::<Device>(&rig, actor, kept.id, at, &device(11)),
        ]
    };
    // In the order of Noun::ALL: organization, user, network, subnet, tunnel, server, volume, group, vdisk, menu, device.
    let all = "rchd";
    for (actor, expected) in [
        (stranger, ["", "", "", "", "r", "", "", "", "", "", ""]),
        (rig.user("m", "member", None), ["r", "", "", "", "r", "", "", "", "", "", ""]),
        (
            rig.user("v", "member", Some("viewer")),
            ["r", "", "r", "r", "r", "r", "r", "r", "r", "r", "r"],
        ),
        (
            rig.user("t", "member", Some("technician")),
            ["r", "", "r", "r", "r", "r", "r", "r", all, "r", all],
        ),
        (
            rig.user("a", "member", Some("admin")),
            ["r", "", "rh", all, "r", all, all, all, all, all, all],
        ),
        (
            rig.user("o", "organization-admin", None),
            ["r", all, all, all, "r", all, all, all, all, all, all],
        ),
        (rig.user("s", "superadmin", None), [all; 11]),
    ] {
        assert_eq!(walk(actor), expected, "{actor:?}");
    }
}

#[test]
fn a_token_reads_of_the_log_what_its_rank_may_see() {
    let rig = rig();
    let user = |name, standing, role| rig.user(name, standing, role);
    let owners = [
        user("root", "superadmin", None),
        user("olga", "organization-admin", None),
        user("anna", "member", Some("admin")),
    ];
    let nouns = |actor| -> BTreeSet<Noun> {
        let entries = rig.panel.audit(actor, &EntryQuery::default()).unwrap().rows;
        entries.into_iter().map(|entry| entry.noun).collect()
    };
    // What was made of no network, and what was made in one.
    let (wide, inside) = (Noun::User, Noun::Server);
    let ranks = [
        (Rank::Technician, [(false, false); 3]),
        (Rank::Admin, [(false, true); 3]),
        (Rank::OrganizationAdmin, [(true, true), (true, true), (false, true)]),
        (Rank::Superadmin, [(true, true), (true, true), (false, true)]),
    ];
    let mut byte = 0;
    for (most, expected) in ranks {
        for (owner, expected) in owners.into_iter().zip(expected) {
            byte += 1;
            let limit = Limit { most, network: None };
            let (name, digest) = (format!("{most:?}"), Digest([byte; 32]));
            rig.panel.make_token(owner, &name, digest, limit, u64::MAX >> 1).unwrap();
            let seen = nouns(rig.panel.token(digest).unwrap().unwrap());
            assert_eq!(
                (seen.contains(&wide), seen.contains(&inside)),
                expected,
                "{owner:?} {most:?}"
            );
        }
    }
}
