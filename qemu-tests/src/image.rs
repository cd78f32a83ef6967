//! Owns where the images under test are. A missing image is a failure that names what makes it, never a skipped test:
//! a run without images proves nothing and must not look like one that passed.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// What `make` builds for the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The agent appliance with a debug shell.
    AgentDebug,
    /// The agent appliance as it is released: no way in.
    Agent,
    /// The panel appliance with a debug shell.
    PanelDebug,
    /// The panel appliance as it is released.
    Panel,
    /// The tunnel appliance with a debug shell.
    TunnelDebug,
    /// The tunnel appliance as it is released.
    Tunnel,
    /// The root file system that diskless Linux devices share, with a debug shell.
    GuestDebian,
    /// That image's kernel, as a file of its own.
    GuestKernel,
    /// That image's initrd.
    GuestInitrd,
    /// Kernel of the tiny guest that tests the harness itself.
    TinyKernel,
    /// Initrd of the tiny guest.
    TinyInitrd,
}

impl Image {
    /// Path below `target/images`, and the command that makes it.
    fn origin(self) -> (&'static str, &'static str) {
        match self {
            Self::AgentDebug => {
                ("agent-debian-debug.img", "make image APPLIANCE=agent BASE=debian DEBUG=1")
            }
            Self::Agent => ("agent-debian.img", "make image APPLIANCE=agent BASE=debian"),
            Self::PanelDebug => {
                ("panel-debian-debug.img", "make image APPLIANCE=panel BASE=debian DEBUG=1")
            }
            Self::Panel => ("panel-debian.img", "make image APPLIANCE=panel BASE=debian"),
            Self::TunnelDebug => {
                ("tunnel-debian-debug.img", "make image APPLIANCE=tunnel BASE=debian DEBUG=1")
            }
            Self::Tunnel => ("tunnel-debian.img", "make image APPLIANCE=tunnel BASE=debian"),
            Self::GuestDebian => ("guest-debian.qcow2", "make guest-image"),
            Self::GuestKernel => ("guest-debian.vmlinuz", "make guest-image"),
            Self::GuestInitrd => ("guest-debian.initrd", "make guest-image"),
            Self::TinyKernel => ("tiny/vmlinuz", "make tiny-guest"),
            Self::TinyInitrd => ("tiny/initrd", "make tiny-guest"),
        }
    }
}

/// The image's path; an error names the command that makes it.
pub fn find_image(image: Image) -> Result<PathBuf> {
    let (name, command) = image.origin();
    let path = target_folder()?.join("images").join(name);
    if !path.is_file() {
        bail!("{} is missing: make it with `{command}`", path.display());
    }
    Ok(path)
}

/// The checkout's own `target`, wherever cargo builds to.
pub fn target_folder() -> Result<PathBuf> {
    let checkout =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has no parent folder")?;
    Ok(checkout.join("target"))
}
