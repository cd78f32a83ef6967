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

/// What people call a browser, by what it calls itself. They all claim to be each other, so the rarer names are looked for first;
/// what is not known is told as it came.
pub(crate) fn browser(agent: &str) -> String {
    const NAMES: [(&str, &str); 5] = [
        ("Edg", "Edge"),
        ("OPR", "Opera"),
        ("Firefox", "Firefox"),
        ("Chrom", "Chrome"),
        ("Safari", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let found = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    match (found(&NAMES), found(&SYSTEMS)) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        _ => agent.to_owned(),
    }
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
    fn browsers_are_called_what_people_call_them() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            ("curl/8.14.1", "curl/8.14.1"),
        ] {
            assert_eq!(browser(agent), name);
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
