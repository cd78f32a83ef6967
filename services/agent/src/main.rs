//! `clusterducks-agent`: reconciles the server it runs on and serves the devices of its networks.
fn main() {}
