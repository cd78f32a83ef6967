//! The box against a panel on loopback, over real TLS.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod joining;
mod page;
mod panel;
