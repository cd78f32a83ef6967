//! Owns the words with the script `guest.sh` in the agent's guest: what is timed is timed there, by the guest's own clock.

use anyhow::{Context, Result, bail};
use qemu_tests::Console;
use std::time::Duration;

const SCRIPT: &[u8] = include_bytes!("guest.sh");
const PLACE: &str = "/run/bench.sh";

/// The script in a guest.
pub(crate) struct Guest(Console);

impl Guest {
    /// Brings the script there.
    pub(crate) async fn new(console: &Console) -> Result<Self> {
        console.put(PLACE, SCRIPT).await?;
        Ok(Self(console.clone()))
    }

    /// Runs a verb of the script, and answers the numbers that it printed, one a line.
    pub(crate) async fn measure(&self, words: &str, limit: Duration) -> Result<Vec<f64>> {
        let text = self.run(words, limit).await?;
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| line.trim().parse().with_context(|| format!("{words} printed {line:?}")))
            .collect()
    }

    /// Like [`Self::measure`], for a verb that prints one number.
    pub(crate) async fn measure_one(&self, words: &str, limit: Duration) -> Result<f64> {
        match self.measure(words, limit).await?.as_slice() {
            [one] => Ok(*one),
            other => bail!("{words} printed {other:?}, not one number"),
        }
    }

    /// Runs a verb of the script.
    pub(crate) async fn run(&self, words: &str, limit: Duration) -> Result<String> {
        let output = self.0.exec_within(&format!("bash {PLACE} {words}"), limit).await?;
        if !output.success() {
            let shown: String = words.chars().take(80).collect();
            bail!("{shown} ended with status {}: {}", output.status, output.stdout.trim());
        }
        Ok(output.stdout)
    }
}
