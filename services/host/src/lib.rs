//! The only crate that touches the machine: one module for each tool it drives.

pub mod bootfiles;
pub mod cmd;
pub mod digest;
pub mod disks;
pub mod dnsmasq;
pub mod files;
pub mod seam;
pub mod sim;
pub mod image;
pub mod sandbox;
pub mod zfs;
pub mod ipxe;
pub mod lio;
pub mod netlink;
