//! Owns how long tests wait for what a guest shows: one poll loop and one multiplier for slow runners. What has to be seen within
//! milliseconds, the harness asks of QEMU where it is needed.

use crate::accel::{Accel, accelerator};
use anyhow::{Result, bail};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Emulation is about four times slower than KVM for a boot, and twice that when machines share the processors.
const TCG_FACTOR: f64 = 8.0;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Looking costs the guest a process each time, which an emulated one feels.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

static FACTOR: LazyLock<f64> = LazyLock::new(|| {
    let wanted = std::env::var("CD_TIMEOUT_FACTOR").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or_else(|| match accelerator() {
        Ok(Accel::Kvm) => 1.0,
        Ok(Accel::Tcg) | Err(_) => TCG_FACTOR,
    })
});

/// A timeout of `seconds` on a machine with KVM, longer by `CD_TIMEOUT_FACTOR` on others (8 under emulation).
pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds).mul_f64(*FACTOR)
}

/// Asks `condition` again and again until it returns a value. An error of `condition` ends the wait at once: return
/// `Ok(None)` for "not yet" and an error only for "never".
pub async fn wait_until<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if started.elapsed() >= timeout {
            bail!("waited {:.1} s in vain until {what}", started.elapsed().as_secs_f64());
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
    }
}
