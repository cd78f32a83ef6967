//! A systemd unit that a module of this crate owns: stopped, started and asked for through systemctl(1), which knows its files.

use std::{fmt, time::Duration};

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
