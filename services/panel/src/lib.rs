//! The control plane: what the fleet shall be, who may change it, and what each server is told. The web console and the JSON API
//! are built over this crate; nothing here knows of HTML or of routes.
//!
//! A tour: [`noun`] has what the panel keeps records of, [`store`] keeps them (the only SQL), [`access`] is the table of who may
//! do what, and [`operations`] are the only way in: each checks access, validates, changes the store in one transaction, and
//! writes the audit log. [`desired`] renders what a server shall be from the store, and tells what a change would bring. [`ca`] is
//! the certificate authority; [`password`], [`totp`], [`codes`] and [`throttle`] are how people and boxes prove who they are.
//!
//! [`sighting`] is the short of what a server shows, and [`alerts`] what somebody has to look after, computed from it and from the
//! store. [`boots`] and [`statistics`] are how devices booted, and what servers were like in a day and a month;
//! [`notices`] tell of alerts.
//!
//! [`fleet`] is the link to the servers' agents, and [`tunnels`] that to the tunnels, which it may go through: the only parts that
//! run by themselves, as tasks of tokio's. All else is called, and blocks on the disk where it touches the store: an async caller runs it where blocking is allowed.

pub mod access;
pub mod alerts;
pub mod backup;
pub mod boots;
pub mod ca;
pub mod codes;
pub mod desired;
pub mod fleet;
pub mod notices;
pub mod noun;
pub mod operations;
pub mod password;
pub mod qr;
pub mod secret;
pub mod sighting;
pub mod statistics;
pub mod store;
pub mod throttle;
pub mod totp;
pub mod tunnels;

#[cfg(test)]
mod testing;
