//! Units of systemd, through systemctl(1), which knows their files: one that a module of this crate owns is stopped, started and
//! asked for; of all others it is only told which have failed.

use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::cmd::{self, Cmd, Program};

/// systemctl waits for the unit; one that hangs must not hold the owner of the machine for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a unit is not as asked.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} {unit}")]
pub struct Error {
    /// Which.
    pub unit: Unit,
    /// What was tried.
    pub action: &'static str,
    /// Why not.
    pub source: cmd::Error,
}

/// A unit by its whole name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit(pub &'static str);

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Unit {
    /// Starts it, and waits until it runs.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(self) -> Result<(), Error> {
        self.act("start").await
    }

    /// Stops it, and waits until it has ended.
    ///
    /// # Errors
    /// It does not stop.
    pub async fn stop(self) -> Result<(), Error> {
        self.act("stop").await
    }

    /// Its `ActiveState` (org.freedesktop.systemd1(5)): `active`, `inactive`, `failed` and others.
    ///
    /// # Errors
    /// systemd does not answer.
    pub async fn state(self) -> Result<String, Error> {
        let words = ["show", "--property=ActiveState", "--value", self.0];
        let state = Cmd::new(Program::Systemctl).args(words).run().await;
        let state = state.map_err(|source| Error { unit: self, action: "ask for", source })?;
        Ok(state.trim().to_owned())
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// systemd does not answer.
    pub async fn is_active(self) -> Result<bool, Error> {
        Ok(self.state().await? == "active")
    }

    async fn act(self, action: &'static str) -> Result<(), Error> {
        let command = Cmd::new(Program::Systemctl).args([action, self.0]);
        let done = command.timeout(PATIENCE).run().await;
        done.map(drop).map_err(|source| Error { unit: self, action, source })
    }
}

/// Why it is not known which units have failed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// systemd does not answer.
    #[error("can't list the units that have failed")]
    Ask(#[from] cmd::Error),
    /// It answers with something else than a list.
    #[error("the list of units that have failed can't be read")]
    Answer(#[from] serde_json::Error),
}

impl ListError {
    /// Whether it may be known later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Ask(_) => true,
            Self::Answer(_) => false,
        }
    }
}

/// The names of the units that have failed, sorted.
///
/// # Errors
/// systemd does not answer, or not with a list.
pub async fn list_failed() -> Result<Vec<String>, ListError> {
    let words = ["list-units", "--state=failed", "--output=json"];
    parse_units(&Cmd::new(Program::Systemctl).args(words).run().await?)
}

fn parse_units(text: &str) -> Result<Vec<String>, ListError> {
    #[derive(Deserialize)]
    struct Listed {
        unit: String,
    }
    let listed: Vec<Listed> = serde_json::from_str(text)?;
    let mut names: Vec<String> = listed.into_iter().map(|listed| listed.unit).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `systemctl list-units --state=failed --output=json` of systemd 257 after `systemd-run --unit=b false` and the same for a.
    #[test]
    fn units_that_have_failed_are_listed_by_their_names() {
        let text = include_str!("../testdata/systemctl-failed.json");
        assert_eq!(parse_units(text).unwrap(), ["a.service", "b.service"]);
        assert_eq!(parse_units("[]\n").unwrap(), [""; 0]);
        assert!(matches!(parse_units("0 loaded units listed."), Err(ListError::Answer(_))));
    }
}
