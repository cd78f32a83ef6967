//! What a hostile server with a valid key, a box that joins and a stranger try against a tunnel, and what refuses it.
//!
//! Each attack names the layers that stand in its way, in the order in which it meets them. It is tried once against all of them, and
//! then again and again with one layer more taken away: each time the next one has to refuse it, and say so; without any of
//! them it has to succeed. So a protection that does nothing fails this test, and so does an attack that proves nothing.

mod chains;
mod field;
#[path = "../ground/mod.rs"]
mod ground;
mod table;

use field::{Field, Seen};
use ground::inside;

/// What stands in an attack's way, and what it says when it does.
struct Layer {
    name: &'static str,
    off: Off,
    seen: Seen,
}

/// How a protection is taken away.
#[derive(Clone, Copy)]
enum Off {
    /// In sshd_config: these texts by those.
    Config(&'static [(&'static str, &'static str)]),
    /// In the line that is printed for a key: this text by that.
    Key(&'static str, &'static str),
    /// A line is printed for every key and user.
    AnyKey,
    /// Those of our chains' rules are left out.
    Rules(fn(&host::iptables::Rule) -> bool),
    /// The server's user has a shell.
    Shell,
    /// Root's account is not locked.
    Unlocked,
    /// It can't be: it is not ours to take away.
    Never,
}

/// Something that is tried, and whether it got through.
struct Attack {
    name: &'static str,
    attempt: fn(&Field) -> field::Attempt,
    layers: Vec<Layer>,
}

#[test]
fn every_attack_is_refused_by_each_of_its_layers_and_succeeds_without_them() {
    if !inside("every_attack_is_refused_by_each_of_its_layers_and_succeeds_without_them") {
        return;
    }
    let mut field = Field::new();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for attack in table::attacks() {
        for taken in 0..=attack.layers.len() {
            let (off, left) = attack.layers.split_at(taken);
            if off.iter().any(|layer| matches!(layer.off, Off::Never)) {
                break;
            }
            tried += 1;
            let found = field.without(off.iter().map(|layer| layer.off), |field| {
                let attempt = (attack.attempt)(field);
                field.judge(&attempt, left.first().map(|layer| &layer.seen))
            });
            let next = left.first().map_or("nothing", |layer| layer.name);
            let off: Vec<&str> = off.iter().map(|layer| layer.name).collect();
            println!(
                "{}: without {off:?}: {next}: {}",
                attack.name,
                if found.is_ok() { "ok" } else { "WRONG" }
            );
            if let Err(why) = found {
                wrong
                    .push(format!("{}, without {off:?}, where {next} is left: {why}", attack.name));
            }
        }
    }
    println!("attempts {tried}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
