//! What the agent is made of; the binary only puts the parts together.
//!
//! A tour: [`run`] starts everything; [`owner`] is the one task that changes the machine; [`boot`] serves the devices; [`api`]
//! takes documents, which [`document`] reads, and shows status, and [`ctl`] is its command line; [`listen`] opens and closes the
//! listeners of both, with what [`certificates`] finds, [`renewal`] brings and [`host::tls`] makes of it, and for the panel where
//! [`direct`] says;
//! [`uplink`] keeps the ways through tunnels up; [`store`] keeps the state; [`seed`] reads the seed file.

pub mod api;
pub mod boot;
pub mod certificates;
pub mod clock;
pub mod ctl;
pub mod direct;
pub mod document;
pub mod listen;
pub mod owner;
pub mod renewal;
pub mod run;
pub mod seed;
pub mod store;
pub mod uplink;
