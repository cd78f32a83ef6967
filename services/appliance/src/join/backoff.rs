//! When to try again. Pure: randomness and time come from the caller.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// How long to wait after so many failures in a row: twice as long each time, and between half of it and all of it by `random`
/// (0 to 1), so that a room of boxes that lost its panel does not come back in one moment.
pub fn pause(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_minutes_and_no_further() {
        assert_eq!(pause(1, 1.0), FIRST);
        assert_eq!(pause(1, 0.0), FIRST / 2);
        assert_eq!(pause(4, 1.0), 8 * FIRST);
        assert_eq!(pause(40, 1.0), LONGEST);
        assert_eq!(pause(u32::MAX, 0.0), LONGEST / 2);
    }
}
