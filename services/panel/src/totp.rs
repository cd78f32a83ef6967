//! The second factor by an authenticator app (RFC 6238: SHA-1, six digits, 30 seconds, what every app supports), and recovery
//! codes for the day on which the app is lost. The store keeps the sealed secret, the last step that was used, and the hashes
//! of the recovery codes.

use std::time::{SystemTime, UNIX_EPOCH};

use model::code::alphabet;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::{Digest as _, Sha256};
use totp_rs::{Algorithm, Builder, TotpError};

use crate::{qr, store::Digest};

/// RFC 4226, 4: 160 bits are recommended.
const SECRET_BYTES: usize = 20;
const STEP_SECONDS: u64 = 30;
/// RFC 6238, 5.2: one step of drift to either side.
const DRIFT_STEPS: u16 = 1;

/// How many recovery codes a person gets.
pub const RECOVERY_CODES: usize = 10;
/// 80 bits, so that a plain hash is enough to keep: nobody tries that many.
const RECOVERY_BYTES: usize = 10;

/// Why a code is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a code of this moment.
    #[error("this code is not right")]
    Wrong,
    /// It was right, and was used before: wait for the next.
    #[error("this code was used already; wait for the next one")]
    Used,
    /// The secret is shorter than 128 bits.
    #[error("the shared secret can't be used")]
    Secret(#[from] TotpError),
    /// The link is too long for a QR code.
    #[error("the QR code can't be drawn")]
    Qr(#[from] qr::Error),
}

impl Error {
    /// Whether another code may do.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Wrong | Self::Used => true,
            Self::Secret(_) | Self::Qr(_) => false,
        }
    }
}

/// What an authenticator app is shown once.
#[derive(Debug)]
pub struct Enrolment {
    /// The `otpauth:` link.
    pub uri: SecretString,
    /// The link as a QR code.
    pub svg: SecretString,
    /// The secret in base32, for typing.
    pub typed: SecretString,
}

/// The secret that a person's app and the panel share.
#[derive(Debug)]
pub struct Totp(SecretSlice<u8>);

impl Totp {
    /// A new secret.
    pub fn generate() -> Self {
        let mut bytes = vec![0; SECRET_BYTES];
        rand::fill(&mut bytes[..]);
        Self(bytes.into())
    }

    /// Takes the secret back.
    pub fn new(secret: SecretSlice<u8>) -> Self {
        Self(secret)
    }

    /// The secret, to be sealed.
    pub fn secret(&self) -> &SecretSlice<u8> {
        &self.0
    }

    /// What to show to the person `account` of the panel `issuer`.
    ///
    /// # Errors
    /// The secret is too short, or the names too long for a QR code.
    pub fn enrolment(&self, issuer: &str, account: &str) -> Result<Enrolment, Error> {
        // A colon divides the two in the link and may stand in neither.
        let totp = self
            .builder()
            .with_issuer(Some(issuer.replace(':', " ")))
            .with_account_name(account.replace(':', " "))
            .build()?;
        let uri = SecretString::from(totp.to_url()?);
        let svg = qr::svg(uri.expose_secret())?.into();
        let typed = base32::Alphabet::Rfc4648 { padding: false };
        let typed = base32::encode(typed, self.0.expose_secret()).into();
        Ok(Enrolment { uri, svg, typed })
    }

    /// Checks a code. Returns its step, to be kept as `last`: no code of it or of an earlier one is taken again.
    ///
    /// # Errors
    /// It is wrong, or was used.
    pub fn check(&self, code: &str, now: SystemTime, last: Option<u64>) -> Result<u64, Error> {
        let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        let seconds = now.duration_since(UNIX_EPOCH).map_err(|_| Error::Wrong)?.as_secs();
        let step = self.builder().build()?.check(&digits, seconds).ok_or(Error::Wrong)?;
        if last.is_some_and(|last| step <= last) { Err(Error::Used) } else { Ok(step) }
    }

    fn builder(&self) -> Builder {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(6)
            .with_skew(DRIFT_STEPS)
            .with_step_duration(STEP_SECONDS)
            .with_secret(self.0.expose_secret().to_vec())
    }
}

/// New recovery codes: what to show once, and what to keep.
pub fn recovery_codes() -> Vec<(SecretString, Digest)> {
    let code = |()| {
        let bytes: [u8; RECOVERY_BYTES] = rand::random();
        (alphabet::encode(&bytes).into(), digest(&bytes))
    };
    std::iter::repeat_n((), RECOVERY_CODES).map(code).collect()
}

/// What the store may have kept of the recovery code that was typed; it says whether there is one, and uses it.
///
/// # Errors
/// It is no recovery code, or mistyped.
pub fn recovery_digest(typed: &str) -> Result<Digest, Error> {
    Ok(digest(&alphabet::decode(typed).map_err(|_| Error::Wrong)?))
}

fn digest(bytes: &[u8]) -> Digest {
    let digest = Sha256::new().chain_update(b"clusterducks recovery code\0").chain_update(bytes);
    Digest(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{operations::Actor, testing::rig};
    use std::{collections::BTreeSet, time::Duration};

    /// The secret of RFC 6238's appendix B for SHA-1.
    fn rfc() -> Totp {
        Totp::new(b"12345678901234567890".to_vec().into())
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        // Appendix B, the last six of its eight digits.
        let vectors = [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ];
        for (seconds, code) in vectors {
            assert_eq!(rfc().check(code, at(seconds), None).unwrap(), seconds / 30, "{seconds}");
        }
    }

    #[test]
    fn a_code_holds_one_step_before_and_after_its_own() {
        let check = |seconds| rfc().check("005924", at(seconds), None);
        let begin = 1_234_567_890 / 30 * 30;
        assert!(check(begin - 30).is_ok() && check(begin + 59).is_ok());
        for outside in [begin - 31, begin + 60] {
            assert!(matches!(check(outside), Err(Error::Wrong)), "{outside}");
        }
    }

    #[test]
    fn a_code_and_all_before_it_are_used_up_by_it() {
        let now = at(1_111_111_111);
        let step = rfc().check("050 471", now, None).unwrap();
        assert!(matches!(rfc().check("050471", now, Some(step)), Err(Error::Used)));
        assert!(matches!(rfc().check("081804", now, Some(step)), Err(Error::Used)));
        assert!(rfc().check("050471", now, Some(step - 1)).is_ok());
    }

    #[test]
    fn what_is_no_code_is_wrong() {
        for text in ["", "12345", "1234567", "abcdef", "+50471", "٠٥٠٤٧١"] {
            let checked = rfc().check(text, at(1_111_111_111), None);
            assert!(matches!(checked, Err(Error::Wrong)), "{text}");
        }
    }

    #[test]
    fn an_app_is_shown_everything_it_needs() {
        let shown = rfc().enrolment("Duck: pond", "ada@example.org").unwrap();
        let uri = shown.uri.expose_secret();
        assert!(uri.starts_with("otpauth://totp/Duck"), "{uri}");
        assert!(uri.contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), "{uri}");
        assert_eq!(shown.typed.expose_secret(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(shown.svg.expose_secret().contains("<svg"));
        assert!(!format!("{shown:?}").contains("GEZD"));
        assert_eq!(Totp::generate().secret().expose_secret().len(), 20);
    }

    #[test]
    fn each_recovery_code_works_once() {
        let codes = recovery_codes();
        let texts: BTreeSet<_> = codes.iter().map(|(code, _)| code.expose_secret()).collect();
        assert_eq!(texts.len(), RECOVERY_CODES);
        let rig = rig();
        let user = rig.user("vera", "member", None);
        let Actor::User(id) = user else { unreachable!() };
        let kept: Vec<_> = codes.iter().map(|(_, digest)| *digest).collect();
        rig.panel.set_recovery_codes(user, id, &kept).unwrap();
        let recover =
            |typed: &str| rig.panel.use_recovery_code(id, recovery_digest(typed).unwrap()).unwrap();
        for (code, _) in codes.iter().rev() {
            let typed = code.expose_secret().to_lowercase().replace('-', " ");
            assert!(recover(&typed));
            assert!(!recover(&typed), "replayed");
        }
        let (never, _) = recovery_codes().pop().unwrap();
        assert!(!recover(never.expose_secret()));
        assert!(matches!(recovery_digest("duck"), Err(Error::Wrong)));
    }
}
