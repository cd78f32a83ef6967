//! The words of the product as types, and the pure planning over them.
//!
//! A tour: [`name`] parses every word that crosses an edge; [`desired`] is the document that the panel sends a server,
//! [`validate`] refuses a bad one whole, and [`document`] makes the look-ups of a good one;
//! [`boot`] is what one boot of one device was given; [`observed`] is what the machine showed; [`plan()`] compares them and
//! answers [`step::Step`]s, the only kind of change that is made to it; [`wire`] is what the agent tells;
//! [`code`] is what a person carries to a box, [`join`] what the box asks the panel with it, [`certify`] how its certificates are
//! renewed, [`tunnel`] what a relay is told, [`proof`] how it and the panel come to trust each other, and [`throttle`] how often
//! somebody may try. Nothing here does I/O, waits, or reads a clock.

pub mod boot;
pub mod certify;
pub mod code;
pub mod desired;
pub mod document;
pub mod join;
pub mod name;
pub mod observed;
pub mod plan;
pub mod proof;
pub mod step;
pub mod throttle;
pub mod tunnel;
pub mod validate;
pub mod wire;

pub use document::Document;
pub use plan::{Plan, plan};
