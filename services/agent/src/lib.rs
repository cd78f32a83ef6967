//! What the agent is made of; the binary only puts the parts together.

pub mod boot;
