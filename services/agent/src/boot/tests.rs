//! Ring 1: what is written, against golden files in `testdata/`. Ring 2: real HTTP over loopback against a provisioner in memory.

mod connections;
mod golden;
mod http;
mod lab;
