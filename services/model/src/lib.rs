//! The words of the product as types, and the pure planning over them.
//!
//! A tour: [`name`] parses every word that crosses an edge; [`desired`] is the document that the panel sends a server, and
//! [`validate`] refuses a bad one whole;
//! [`boot`] is what one boot of one device was given; [`observed`] is what the machine showed; [`plan()`] compares them and
//! answers [`step::Step`]s, the only kind of change that is made to it; [`wire`] is what the agent tells. Nothing here does I/O, waits, or reads a clock.

pub mod boot;
pub mod desired;
pub mod name;
pub mod observed;
pub mod plan;
pub mod step;
pub mod validate;
pub mod wire;

pub use plan::{Plan, plan};
