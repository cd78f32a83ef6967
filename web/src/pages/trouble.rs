//! The page of a problem.

use askama::Template;

use crate::{frame::Frame, problem::Told};

/// What went wrong, and what to do now.
#[derive(Debug, Template)]
#[template(path = "trouble.html", blocks = ["content"])]
pub struct Trouble {
    /// Where it is drawn.
    pub frame: Frame,
    /// What is told.
    pub told: Told,
}
