//! The console over real HTTPS on the loopback, with a panel of its own in a throw-away folder.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod accounts;
#[expect(dead_code, reason = "the panel's own tests do more to agents")]
#[path = "../../../services/panel/tests/room/agent.rs"]
mod agent;
mod alerts;
mod answers;
mod api;
mod certificates;
mod first_start;
mod fleet;
mod guard;
mod lists;
mod live;
mod records;
#[allow(dead_code, reason = "the panel's own tests do more to tunnels")]
#[path = "../../../services/panel/tests/relay/mod.rs"]
mod relay;
mod restore;
mod rig;
mod routes;
mod servers;
mod templates;
mod tunnels;
mod user_certificates;
