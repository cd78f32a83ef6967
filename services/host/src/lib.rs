//! The only crate that touches the machine: one module for each tool it drives.

pub mod cmd;
pub mod files;
pub mod seam;
pub mod sim;
