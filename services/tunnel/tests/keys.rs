//! The program that looks keys up, as sshd starts it: how long it takes among 10,000 servers.

mod lookups;

use std::time::Duration;

/// sshd asks twice for each connection. The figure is for an optimized build on a quiet machine; the bound holds on any.
#[test]
fn a_key_among_ten_thousand_is_found_at_once() {
    let mut times = lookups::times();
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "authorized_keys_p50_us {} authorized_keys_p99_us {}",
        p50.as_micros(),
        p99.as_micros()
    );
    assert!(p50 < Duration::from_millis(100), "{p50:?}");
}
