//! Owns the figures: which are wanted, how they are printed, the file that they are written to. It never makes one up.

use anyhow::{Context, Result, bail};
use qemu_tests::target_folder;
use serde_json::{Map, Value};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Figures that are measured together.
pub(crate) struct Section {
    /// Their names.
    pub(crate) names: &'static [&'static str],
    /// How long measuring may take.
    pub(crate) limit: fn() -> Duration,
    /// Measures them.
    pub(crate) measure: for<'a> fn(&'a mut Figures) -> Measuring<'a>,
}

/// A section at work.
pub(crate) type Measuring<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// What was measured so far.
pub(crate) struct Figures {
    only: String,
    values: Map<String, Value>,
}

impl Figures {
    /// Those whose names begin with `only`.
    pub(crate) fn new(only: String) -> Self {
        Self { only, values: Map::new() }
    }

    /// Whether the figure is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.starts_with(&self.only)
    }

    /// Measures a section if any of its figures is wanted, and writes the file anew: a run that is stopped keeps what it has.
    pub(crate) async fn measure(&mut self, section: &Section) -> Result<()> {
        if !section.names.iter().any(|name| self.wants(name)) {
            return Ok(());
        }
        let limit = (section.limit)();
        let ended = match tokio::time::timeout(limit, (section.measure)(self)).await {
            Ok(ended) => ended,
            Err(_) => Err(anyhow::anyhow!("not done after {} s", limit.as_secs())),
        };
        let reason = match ended {
            Ok(()) => "it was not reached".to_owned(),
            Err(error) => one_line(&format!("{error:#}")),
        };
        for name in section.names {
            if self.wants(name) && !self.values.contains_key(*name) {
                println!("{name} - not-run {reason}");
            }
        }
        self.write()
    }

    /// Takes a figure.
    pub(crate) fn report(&mut self, name: &str, value: f64, unit: &str) {
        if self.wants(name) {
            println!("{name} {value:.3} {unit}");
            self.values.insert(name.to_owned(), Value::from((value * 1000.0).round() / 1000.0));
        }
    }

    /// Takes the figures of a crate that measures itself, from what its test told: lines `figure <name> <value> <unit>`, and notes
    /// that begin with `#`. The first of a test stands behind the test's name.
    pub(crate) fn take(&mut self, told: &str) -> Result<()> {
        for line in told.lines() {
            if let Some(text) = line.strip_prefix("# ") {
                eprintln!("# {text}");
            }
            let Some((_, line)) = line.split_once("figure ") else { continue };
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, value, unit] = words.as_slice() else { bail!("{line} is no figure") };
            self.report(name, value.parse().with_context(|| line.to_owned())?, unit);
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        let path = target_folder()?.join("bench.json");
        let text = serde_json::to_string_pretty(&Value::Object(self.values.clone()))?;
        qemu_tests::write_file(&path, format!("{text}\n").as_bytes())
    }
}

/// Tells on stderr what stands behind a figure, with the load that the host had.
pub(crate) fn note(text: &str) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!("# {text} (load {})", load.split(' ').next().unwrap_or("unknown"));
}

/// The middle one; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    let lower = sorted.len().saturating_sub(1) / 2;
    let at = |index: usize| sorted.get(index).copied().context("nothing was measured");
    Ok(f64::midpoint(at(lower)?, at(upper)?))
}

/// Values as they are shown in a note.
pub(crate) fn list(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(" ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_of_what_was_measured_and_never_of_nothing() {
        assert_eq!(median(&[9.0, 1.0, 2.0]).unwrap(), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 9.0]).unwrap(), 3.0);
        assert_eq!(median(&[]).unwrap_err().to_string(), "nothing was measured");
    }

    #[test]
    fn only_the_figures_that_are_asked_for_are_taken() {
        let mut figures = Figures::new("agent_".to_owned());
        figures.report("agent_ready_s", 12.34567, "s");
        figures.report("image_agent_mib", 1.0, "MiB");
        assert_eq!(Value::Object(figures.values), serde_json::json!({ "agent_ready_s": 12.346 }));
    }
}
