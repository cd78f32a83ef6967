//! The tunnel's service over real TLS on loopback: pairing, whom it answers, streams, boxes that join, and what is left of it when
//! it is killed. The forwarded ports are listeners of the test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod certificates;
mod clients;
mod joins;
mod killed;
mod lab;
mod pairing;
mod standing;
mod streams;
