//! The only crate that touches the machine: one module for each tool it drives.
//!
//! A tour: every process is started by [`cmd`], every file written by [`files`]; [`tls`] tells the panel from everybody else, and
//! [`clients`] counts them; [`service`] speaks to systemd; [`seam`] is what the rest of the agent sees of a machine, [`machine`] the
//! real one, [`sim`] the simulated one.

pub mod bootfiles;
pub mod clients;
pub mod cmd;
pub mod console;
pub mod digest;
pub mod disks;
pub mod dnsmasq;
pub mod files;
pub mod hardware;
pub mod image;
pub mod iptables;
pub mod ipxe;
pub mod keys;
pub mod lio;
pub mod machine;
pub mod netlink;
pub mod networkd;
pub mod own;
pub mod sandbox;
pub mod seam;
pub mod service;
pub mod sim;
pub mod solicit;
pub mod ssh;
pub mod sshd;
pub mod tls;
pub mod unit;
pub mod userdb;
pub mod zfs;
