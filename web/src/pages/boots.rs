//! How the times of boots are written. What they are is the panel's.

use model::wire::BootStep;
use panel::boots::{Boot, STEPS};

/// The word of a step.
pub(crate) fn word(step: &BootStep) -> &'static str {
    panel::boots::word(*step)
}

/// The words of the steps of a boot that goes well.
pub(crate) fn words() -> [&'static str; STEPS.len()] {
    STEPS.map(panel::boots::word)
}

/// The steps of a boot, with when each was reached.
pub(crate) fn steps(boot: &Boot) -> Vec<(&'static str, Option<u64>)> {
    words().into_iter().zip(boot.steps).collect()
}

/// A span of time in seconds, to the tenth while it is short.
pub(crate) fn span(ms: &u64) -> String {
    match ms / 1000 {
        0..100 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        seconds @ 100..6_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// The time from one moment to another.
pub(crate) fn between(from_ms: &u64, to_ms: &u64) -> String {
    span(&to_ms.saturating_sub(*from_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_have_tenths() {
        for (ms, text) in
            [(0, "0.0 s"), (99_950, "99.9 s"), (100_000, "1 min 40 s"), (7_200_000, "2 h")]
        {
            assert_eq!(span(&ms), text);
        }
    }
}
