//! Boots the appliance images and diskless devices in QEMU on a virtual LAN; knows the images only from outside.
//!
//! A test makes a [`Lan`], takes machines on it and talks to them by their serial log ([`Serial`]), their debug shell
//! ([`Console`]) and QMP ([`Qmp`]). Everything that a test starts ends with it: also when it panics, also when its
//! process is killed.

mod accel;
mod admin;
mod appliance;
mod background;
mod browser;
mod campus;
mod console;
mod image;
mod lan;
mod machine;
mod process;
mod qmp;
mod room;
mod serial;
mod site;
pub mod switch;
mod wait;
mod wan;
mod workspace;

pub use accel::{Accel, TINY_GUEST_UP, accelerator};
pub use admin::Admin;
pub use appliance::{ZFS_TAINTS, started_clean};
pub use browser::{Browser, PANEL_NAME, Page};
pub use campus::{Campus, code_in, pairing_code};
pub use console::{Console, Output};
pub use image::{Image, find_image, target_folder};
pub use lan::{Lan, mac_of};
pub use machine::{
    Builder, DiskSpec, Firmware, HostService, Machine, NicModel, NicSpec, SavedState,
};
pub use process::{Process, run_tool};
pub use qmp::Qmp;
pub use room::{Room, first_code, free_port};
pub use serial::Serial;
pub use site::{DEVICE_UP, Site, answers, converged, events, up};
pub use wait::{secs, wait_until};
pub use wan::{SITE_GATEWAY, TUNNEL_ADDRESS, Wan};
pub use workspace::{Workspace, token, write_file};
