//! Joining a panel: a code comes in, certificates come out. A tour: [`seed`] reads a code from the boot partition; [`joiner`] is
//! the one task that uses codes, and keeps in [`kept`] what must survive a power cut; [`client`] speaks to the panel, whom [`pin`]
//! knows; [`identity`] makes keys and requests; [`answer`] looks whether what came is good, and [`install`] puts it where the box's
//! service looks for it.

pub mod answer;
pub mod backoff;
pub mod client;
pub mod identity;
pub mod install;
pub mod joiner;
pub mod kept;
pub mod pin;
pub mod seed;
