//! One-time codes as the panel makes and shows them. Their form is [`model::code`]'s, which boxes read too; the store keeps
//! digests alone.

use std::time::{Duration, SystemTime};

use model::{
    code::{self, Address, JoinCode, JoinSecret, OneTime, PairingCode, ShortCode, Way},
    name::ServerName,
};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::{ca::Fingerprint, noun::TunnelName, qr, store::Digest};

/// Why a code can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be put into text.
    #[error("the code can't be written")]
    Code(#[from] code::Error),
    /// It can't be drawn.
    #[error("the code can't be drawn")]
    Qr(#[from] qr::Error),
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Code(error) => error.retryable(),
            Self::Qr(error) => error.retryable(),
        }
    }
}

/// A new code to read off a screen and to type.
pub fn short_code() -> ShortCode {
    ShortCode::new(rand::random())
}

/// A new join code with the whole fingerprint of the root. It expires with the last full minute of `lifetime`.
pub fn join_code(
    way: Way,
    panel: Address,
    root: &Fingerprint,
    now: SystemTime,
    lifetime: Duration,
) -> JoinCode {
    JoinCode::new(way, panel, root.bytes(), JoinSecret::new(rand::random()), now, lifetime)
}

/// What is kept of a code.
pub fn digest<const N: usize>(code: &OneTime<N>) -> Digest {
    let digest = Sha256::new().chain_update(b"clusterducks code\0").chain_update(code.bytes());
    Digest(digest.finalize().into())
}

/// A join code for cameras, as an `<svg>` element.
///
/// # Errors
/// It can't be rendered.
pub fn svg(code: &JoinCode) -> Result<SecretString, Error> {
    Ok(qr::svg(code.text()?.expose_secret())?.into())
}

/// The seed file `clusterducks.toml` of a box that shall join by itself.
#[derive(Debug)]
pub struct SeedFile<'a> {
    /// The name that the box shall have.
    pub hostname: Option<&'a ServerName>,
    /// Its code.
    pub join: &'a JoinCode,
}

impl SeedFile<'_> {
    /// The file's text, for the boot partition.
    ///
    /// # Errors
    /// The code can't be rendered.
    pub fn render(&self) -> Result<SecretString, Error> {
        let hostname =
            self.hostname.map(|name| format!("hostname = \"{name}\"\n\n")).unwrap_or_default();
        let end = time::OffsetDateTime::from(self.join.expires);
        Ok(format!(
            "{hostname}[join]\n# the panel at {}; good until {} {:02}:{:02} UTC, for one box\ncode = \"{}\"\n",
            self.join.address,
            end.date(),
            end.hour(),
            end.minute(),
            self.join.text()?.expose_secret(),
        )
        .into())
    }
}

/// The seed file `clusterducks.toml` of a tunnel that shall pair by itself.
#[derive(Debug)]
pub struct TunnelSeedFile<'a> {
    /// The tunnel's name.
    pub name: &'a TunnelName,
    /// Its code.
    pub code: &'a PairingCode,
    /// Until when the panel tries it, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl TunnelSeedFile<'_> {
    /// The file's text, for the boot partition.
    pub fn render(&self) -> SecretString {
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.expires_ms));
        let end = time::OffsetDateTime::from(end.unwrap_or(SystemTime::UNIX_EPOCH));
        format!(
            "hostname = \"{}\"\n\n[pair]\n# tried by the panel until {} {:02}:{:02} UTC, for one tunnel\ncode = \"{}\"\n",
            self.name,
            end.date(),
            end.hour(),
            end.minute(),
            self.code.text().expose_secret(),
        )
        .into()
    }
}

#[cfg(test)]
mod tests {
    use model::code::Pin;

    use super::*;

    fn code() -> JoinCode {
        let host = model::code::Host::try_from("panel.example").unwrap();
        let panel = Address { host, port: 443 };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let day = Duration::from_secs(24 * 3600);
        join_code(Way::Panel, panel, &[0x9f; 32].into(), now, day)
    }

    #[test]
    fn a_code_is_known_by_its_digest_and_no_two_are_the_same() {
        let code = short_code();
        let typed = ShortCode::parse(code.text().expose_secret()).unwrap();
        assert_eq!(digest(&typed), digest(&code));
        assert_ne!(digest(&short_code()), digest(&code));
    }

    #[test]
    fn a_seed_file_is_toml_with_the_whole_code() {
        let made = code();
        let name = "box-1".parse().unwrap();
        let file = SeedFile { hostname: Some(&name), join: &made }.render().unwrap();
        let read: toml::Table = file.expose_secret().parse().unwrap();
        assert_eq!(read["hostname"].as_str(), Some("box-1"));
        let join = read["join"]["code"].as_str().unwrap();
        assert_eq!(JoinCode::parse(join).unwrap().root, Pin::Whole([0x9f; 32]));
        let note = "panel.example:443; good until 2026-11-19 11:06 UTC";
        assert!(file.expose_secret().contains(note), "{}", file.expose_secret());
    }

    #[test]
    fn a_tunnels_seed_file_is_toml_with_its_code() {
        let code = PairingCode { secret: OneTime::new([7; 16]).into(), key: None };
        let name = "relay".parse().unwrap();
        let file = TunnelSeedFile { name: &name, code: &code, expires_ms: 1_795_086_360_000 };
        let file = file.render();
        let read: toml::Table = file.expose_secret().parse().unwrap();
        assert_eq!(read["hostname"].as_str(), Some("relay"));
        let read = PairingCode::parse(read["pair"]["code"].as_str().unwrap()).unwrap();
        assert!(read.secret.is(&code.secret) && read.key.is_none());
        let note = "until 2026-11-19 11:06 UTC";
        assert!(file.expose_secret().contains(note), "{}", file.expose_secret());
    }

    #[test]
    fn a_code_is_drawn_for_cameras() {
        assert!(svg(&code()).unwrap().expose_secret().starts_with("<svg"));
    }
}
