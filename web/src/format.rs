//! How numbers and times are written on pages. Words stand in the templates.

use time::{OffsetDateTime, UtcOffset};

/// A size in binary units, three digits of it.
pub(crate) fn size(size_bytes: &u64) -> String {
    const UNITS: [&str; 6] = ["TiB", "GiB", "MiB", "KiB", "B", ""];
    let factors = [1_u64 << 40, 1 << 30, 1 << 20, 1 << 10];
    for (unit, factor) in UNITS.iter().zip(factors) {
        if *size_bytes >= factor {
            let (whole, tenths) = (size_bytes / factor, size_bytes % factor * 10 / factor);
            return match (whole, tenths) {
                (0..100, 1..) => format!("{whole}.{tenths} {unit}"),
                _ => format!("{whole} {unit}"),
            };
        }
    }
    format!("{size_bytes} B")
}

fn at(ms: u64) -> OffsetDateTime {
    let nanoseconds = i128::from(ms).saturating_mul(1_000_000);
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds);
    at.unwrap_or(OffsetDateTime::UNIX_EPOCH).to_offset(UtcOffset::UTC)
}

/// A time as `<time datetime>` has it; scripts turn it into the zone of who looks.
pub(crate) fn iso(ms: &u64) -> String {
    let at = at(*ms);
    let (date, (hour, minute, second)) = (at.date(), at.to_hms());
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A time as it stands on the page where there are no scripts.
pub(crate) fn utc(ms: &u64) -> String {
    let at = at(*ms);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

/// Milliseconds since 1970.
pub(crate) fn ms(time: std::time::SystemTime) -> u64 {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1 << 10, "1 KiB"),
            (3 << 29, "1.5 GiB"),
            (123 << 30, "123 GiB"),
            (5 << 40, "5 TiB"),
        ] {
            assert_eq!(size(&bytes), text);
        }
    }

    #[test]
    fn times_are_told_in_utc_for_machines_and_people() {
        let at = 1_700_000_000_123;
        assert_eq!(iso(&at), "2023-11-14T22:13:20Z");
        assert_eq!(utc(&at), "2023-11-14 22:13 UTC");
        assert_eq!(iso(&u64::MAX), "1970-01-01T00:00:00Z");
    }
}
