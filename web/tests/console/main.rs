//! The console over real HTTPS on the loopback, with a panel of its own in a throw-away folder.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod accounts;
mod answers;
mod first_start;
mod guard;
mod lists;
mod live;
mod records;
mod rig;
mod routes;
mod servers;
mod templates;
