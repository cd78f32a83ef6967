//! The seam between the one who decides and the machine: observe it, apply a step to it. The real machine and the simulator
//! stand behind it; nothing else does.

use std::future::Future;

use model::{observed::Observed, step::Step};

/// A machine that can be looked at and changed. One task owns it.
pub trait Host: Send + 'static {
    /// Looks at the whole machine.
    ///
    /// # Errors
    /// A tool that shows a part of it failed: nothing can be planned then.
    fn observe(&mut self) -> impl Future<Output = Result<Observed, Error>> + Send;

    /// Makes one change. Doing the same step twice is harmless.
    ///
    /// # Errors
    /// The change was not made, or not whole; planning from the next observation mends it.
    fn apply(&mut self, step: &Step) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Why a machine could not be observed or changed. Display says what was tried; the source says why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{tried}")]
pub struct Error {
    /// What was tried, on what.
    pub tried: &'static str,
    /// Why it failed.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// Wraps the error of a module.
    pub fn new(
        tried: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { tried, source: source.into() }
    }

    /// The whole chain on one line, for people.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its sources on one line, for people.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
