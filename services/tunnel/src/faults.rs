//! What is not as it should be, by who found it, in words for people. Each finder tells all that it sees; telling nothing clears
//! its faults.

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The faults of all parts; cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Faults(watch::Sender<BTreeMap<&'static str, Vec<String>>>);

impl Faults {
    /// Says what `part` sees now.
    pub fn set(&self, part: &'static str, seen: Vec<String>) {
        self.0.send_if_modified(|faults| {
            if faults.get(part).map_or(&[][..], Vec::as_slice) == seen {
                return false;
            }
            for fault in &seen {
                tracing::error!(part, fault, "fault");
            }
            if seen.is_empty() {
                tracing::info!(part, "sound again");
                faults.remove(part);
            } else {
                faults.insert(part, seen);
            }
            true
        });
    }

    /// All of them, in words.
    pub fn list(&self) -> Vec<String> {
        self.0.borrow().values().flatten().cloned().collect()
    }

    /// Wakes when they change.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<&'static str, Vec<String>>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_back_its_own_faults_alone() {
        let faults = Faults::default();
        faults.set("a", vec!["one".to_owned(), "two".to_owned()]);
        faults.set("b", vec!["three".to_owned()]);
        let mut seen = faults.subscribe();
        faults.set("b", vec!["three".to_owned()]);
        assert!(!seen.has_changed().unwrap());
        faults.set("a", Vec::new());
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        assert_eq!(faults.list(), ["three"]);
    }
}
