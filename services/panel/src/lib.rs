//! The control plane: what the fleet shall be, who may change it, and what each server is told. The web console and the JSON API
//! are built over this crate; nothing here knows of HTML or of routes.
//!
//! A tour: [`noun`] has what the panel keeps records of, and [`access`] is the table of who may do what.

pub mod access;
pub mod noun;
