//! Reading a document: from text to a valid [`Desired`], or to every fault with its place. Pure.

use std::collections::{BTreeMap, BTreeSet};

use host::{seam::chain, tls::revocation_lists};
use model::{
    desired::Desired,
    validate::{Fault, validate},
};
use serde_json::{Value, error::Category};
use serde_path_to_error::{Path, Segment};

/// The most faults of type that are listed: a list of thousands helps nobody, and each costs a reading of the document.
const MOST_FAULTS: usize = 100;

/// Reads a document and finds every fault in it. A text that is not JSON has one: where its reading stopped. What the parts mean
/// together is looked at only when each of them is what it should be.
///
/// # Errors
/// The faults.
pub fn read_document(text: &[u8]) -> Result<Desired, Vec<Fault>> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let desired: Desired = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let first = Fault { path: error.path().to_string(), message: error.inner().to_string() };
        match (error.inner().classify(), serde_json::from_slice(text)) {
            (Category::Data, Ok(value)) => faults_of_type(value, first),
            _ => vec![first],
        }
    })?;
    reader
        .end()
        .map_err(|error| vec![Fault { path: ".".to_owned(), message: error.to_string() }])?;
    let mut faults = validate(&desired);
    if let Some(lists) = &desired.revocation_list_pem
        && let Err(error) = revocation_lists(lists.as_bytes())
    {
        // With a list that it can't read the API would close, and no panel could send another.
        let path = "revocation_list_pem".to_owned();
        faults.push(Fault { path, message: chain(&error) });
    }
    if faults.is_empty() { Ok(desired) } else { Err(faults) }
}

/// serde stops at the first fault. So what is at fault is noted and taken out, and the rest is read again, until it reads well.
///
/// `first` is the fault of the text itself; it is the answer when the text has one that its value has not: a key that stands twice.
fn faults_of_type(mut document: Value, first: Fault) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut taken = Taken::default();
    while faults.len() < MOST_FAULTS {
        let Err(error) = serde_path_to_error::deserialize::<_, Desired>(&document) else { break };
        let place = place(error.path());
        let path = taken.original(&place);
        if !taken.out_of.contains(&path) {
            faults.push(Fault { path, message: error.inner().to_string() });
        }
        if !taken.take(&mut document, &place) {
            break;
        }
    }
    if faults.is_empty() { vec![first] } else { faults }
}

/// One step of a place: into a list, or into an object.
#[derive(Debug, Clone, PartialEq)]
enum To {
    Item(usize),
    Key(String),
}

/// The place as far as it is known: in a part that serde buffers, it is that part.
fn place(path: &Path) -> Vec<To> {
    path.iter()
        .map_while(|segment| match segment {
            Segment::Seq { index } => Some(To::Item(*index)),
            Segment::Map { key } => Some(To::Key(key.clone())),
            Segment::Enum { variant } => Some(To::Key(variant.clone())),
            Segment::Unknown => None,
        })
        .collect()
}

/// What was taken out of a document.
#[derive(Debug, Default)]
struct Taken {
    /// How many items at the front of a list are gone, by its path. They go together with a faulty one behind them: lists are
    /// read in order, so that they were read well.
    items: BTreeMap<String, usize>,
    /// Paths of objects that lack a key because of us: a fault of such an object is no fault of the document's.
    out_of: BTreeSet<String>,
}

impl Taken {
    /// The path in the document as it came.
    fn original(&self, place: &[To]) -> String {
        let mut path = String::new();
        for to in place {
            match to {
                To::Item(index) => {
                    let gone = self.items.get(&path).copied().unwrap_or_default();
                    path.push_str(&format!("[{}]", gone + index));
                }
                To::Key(key) if path.is_empty() => path.push_str(key),
                To::Key(key) => path.push_str(&format!(".{key}")),
            }
        }
        if path.is_empty() { ".".to_owned() } else { path }
    }

    /// Takes the part at this place out; false when there is no such part, or when it is the whole.
    fn take(&mut self, document: &mut Value, place: &[To]) -> bool {
        let Some((last, parents)) = place.split_last() else { return false };
        let mut holder = Some(document);
        for to in parents {
            holder = holder.and_then(|value| match to {
                To::Item(index) => value.get_mut(index),
                To::Key(key) => value.get_mut(key),
            });
        }
        let path = self.original(parents);
        match (last, holder) {
            (To::Item(index), Some(Value::Array(items))) if *index < items.len() => {
                items.drain(..=*index);
                *self.items.entry(path).or_default() += index + 1;
                true
            }
            (To::Key(key), Some(Value::Object(keys))) => {
                self.out_of.insert(path);
                keys.remove(key).is_some()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sound() -> Value {
        json!({
            "generation": 1,
            "pools": [{ "name": "tank", "disks": [{ "serial": "A" }, { "serial": "B" }] }],
            "networks": [{ "name": "lab", "interface": { "mac": "52:54:00:00:00:01" },
                "address": "10.77.0.1/24", "dhcp": { "mode": "proxy" } }],
            "volumes": [{ "name": "debian", "pool": "tank", "size_bytes": 1 << 30 }],
            "groups": [{ "name": "lab", "volume": "debian", "generations": [1], "production": 1 }],
            "menus": [{ "name": "main", "title": "Lab", "entries": [
                { "label": "Boot", "action": "image" }, { "label": "Shell", "action": "shell" }] }],
            "devices": [
                { "name": "pc-01", "macs": ["52:54:00:00:01:01"], "network": "lab", "address": "10.77.0.11",
                  "group": "lab", "boot_mode": "overlay" },
                { "name": "pc-02", "macs": ["52:54:00:00:01:02", "52:54:00:00:01:03", "52:54:00:00:01:04"],
                  "network": "lab", "address": "10.77.0.12", "group": "lab", "boot_mode": "overlay" },
                { "name": "pc-03", "macs": ["52:54:00:00:01:05"], "network": "lab", "address": "10.77.0.13",
                  "group": "lab", "boot_mode": "ephemeral" }
            ]
        })
    }

    fn paths(document: &Value) -> Vec<String> {
        let faults = read_document(document.to_string().as_bytes()).unwrap_err();
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn every_fault_of_type_is_told_with_its_place_in_the_document_as_it_came() {
        assert!(read_document(sound().to_string().as_bytes()).is_ok());
        let mut bad = sound();
        bad["generation"] = json!("one");
        bad["pools"][0]["disks"][1]["serial"] = json!(7);
        bad["networks"][0]["interface"]["mac"] = json!("nonsense");
        bad["networks"][0]["address"] = json!("10.77.0.1");
        bad["devices"][0]["colour"] = json!("red");
        bad["devices"][1]["macs"][0] = json!("nonsense");
        bad["devices"][1]["macs"][2] = json!("01:00:00:00:00:00");
        bad["devices"][1]["boot_mode"] = json!("sometimes");
        bad["devices"][2].as_object_mut().unwrap().remove("group");
        let mut found = paths(&bad);
        found.sort();
        assert_eq!(
            found,
            [
                "devices[0].colour",
                "devices[1].boot_mode",
                "devices[1].macs[0]",
                "devices[1].macs[2]",
                "devices[2]",
                "generation",
                "networks[0].address",
                "networks[0].interface.mac",
                "pools[0].disks[1].serial",
            ]
        );
    }

    #[test]
    fn a_choice_that_serde_has_to_look_ahead_for_is_told_as_a_whole() {
        let mut bad = sound();
        bad["menus"][0]["entries"][1]["action"] = json!("dance");
        bad["networks"][0]["dhcp"] = json!({ "mode": "authoritative", "first": 1, "last": 2 });
        let mut found = paths(&bad);
        found.sort();
        assert_eq!(found, ["menus[0].entries[1]", "networks[0].dhcp"]);
    }

    #[test]
    fn a_text_that_is_no_object_or_no_json_or_has_a_key_twice_has_one_fault() {
        let faults = |text: &str| read_document(text.as_bytes()).unwrap_err();
        for text in ["[]", "7", "{", "{} {}", "{\"generation\": 1} x"] {
            assert_eq!(faults(text).len(), 1, "{text}");
        }
        let twice = faults("{\"generation\": 1, \"generation\": 2}");
        assert!(twice[0].message.contains("duplicate field"), "{twice:?}");
    }

    #[test]
    fn a_flood_of_faults_is_cut() {
        let mut bad = sound();
        bad["devices"] = vec![json!(null); 10_000].into();
        assert_eq!(paths(&bad).len(), MOST_FAULTS);
    }
}
