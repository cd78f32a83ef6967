//! Passwords of people: kept as argon2id, judged by how hard they are to guess. The hashing takes memory and time on purpose;
//! call it where nothing else waits, and only a few at once.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use secrecy::{ExposeSecret as _, SecretString};
use zxcvbn::Score;

/// OWASP's Password Storage Cheat Sheet (2025): argon2id with 19 MiB, two passes and one lane. The memory is kept small for
/// panels on a Pi, where several people may sign in at once.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The longest password in bytes: more would cost work and adds nothing.
pub const MAX_BYTES: usize = 256;

/// What a password must reach of zxcvbn's 0 to 4: "safely unguessable: moderate protection from offline slow-hash scenario".
const ENOUGH: Score = Score::Three;

/// Why a password can't be kept or checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Longer than [`MAX_BYTES`].
    #[error("a password may be {MAX_BYTES} bytes long at the most")]
    TooLong,
    /// What is kept of a password is not a hash.
    #[error("the kept password hash can't be read")]
    Kept(#[source] argon2::password_hash::phc::Error),
    /// The hash can't be computed.
    #[error("the password can't be hashed")]
    Hash(#[source] argon2::password_hash::Error),
}

impl Error {
    /// Whether the same may succeed later: only memory may be short.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Hash(_) => true,
            Self::TooLong | Self::Kept(_) => false,
        }
    }
}

/// What came of comparing a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one.
    Right,
    /// It is the one, but is kept more weakly than is usual by now: hash it again while it is known.
    RightButOutdated,
    /// It is not, or there is no such person.
    Wrong,
}

/// Hashes and compares.
#[derive(Debug)]
pub struct Passwords {
    argon2: Argon2<'static>,
    /// The hash of no password: compared with when there is nobody of that name, which must take as long.
    nobody: String,
}

impl Passwords {
    /// With today's parameters.
    ///
    /// # Errors
    /// The memory for a hash can't be had.
    pub fn new() -> Result<Self, Error> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
        Self::with(params.expect("constants within argon2's bounds"))
    }

    fn with(params: Params) -> Result<Self, Error> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let unknown: [u8; 32] = rand::random();
        let nobody = argon2.hash_password(&unknown).map_err(Error::Hash)?.to_string();
        Ok(Self { argon2, nobody })
    }

    /// What to keep of a password: a PHC string with its parameters and its salt.
    ///
    /// # Errors
    /// It is too long, or memory is short.
    pub fn hash(&self, password: &SecretString) -> Result<SecretString, Error> {
        let bytes = checked(password)?;
        Ok(self.argon2.hash_password(bytes).map_err(Error::Hash)?.to_string().into())
    }

    /// Compares a password with what is kept of it. `kept` is nothing when there is nobody of that name: that takes as long.
    ///
    /// # Errors
    /// It is too long, memory is short, or what is kept is no hash.
    pub fn verify(
        &self,
        password: &SecretString,
        kept: Option<&SecretString>,
    ) -> Result<Verdict, Error> {
        let bytes = checked(password)?;
        let text = kept.map_or(self.nobody.as_str(), |kept| kept.expose_secret());
        let hash = PasswordHash::new(text).map_err(Error::Kept)?;
        match self.argon2.verify_password(bytes, &hash) {
            Ok(()) if kept.is_none() => Ok(Verdict::Wrong),
            Ok(()) if self.outdated(&hash) => Ok(Verdict::RightButOutdated),
            Ok(()) => Ok(Verdict::Right),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
            Err(error) => Err(Error::Hash(error)),
        }
    }

    fn outdated(&self, hash: &PasswordHash) -> bool {
        let ours = self.argon2.params();
        let weaker = |kept: &Params| {
            kept.m_cost() < ours.m_cost()
                || kept.t_cost() < ours.t_cost()
                || kept.p_cost() < ours.p_cost()
        };
        hash.algorithm.as_str() != "argon2id"
            || hash.version != Some(Version::V0x13.into())
            || Params::try_from(hash).map_or(true, |kept| weaker(&kept))
    }
}

fn checked(password: &SecretString) -> Result<&[u8], Error> {
    let bytes = password.expose_secret().as_bytes();
    if bytes.len() > MAX_BYTES { Err(Error::TooLong) } else { Ok(bytes) }
}

/// Why a new password is not taken, in words for the one who chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this password is too easy to guess")]
pub struct Weak {
    /// zxcvbn's score, 0 to 2.
    pub score: u8,
    /// What is wrong with it, when one thing is.
    pub warning: Option<String>,
    /// What would make it better.
    pub suggestions: Vec<String>,
}

/// Judges a new password. `about` is what others know of its owner (name, mail address, organization): it and its words count
/// as guessed. Returns zxcvbn's score, 3 or 4.
///
/// # Errors
/// It is too easy to guess.
pub fn judge(password: &SecretString, about: &[&str]) -> Result<u8, Weak> {
    let words = about.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    let known: Vec<_> = about.iter().copied().chain(words).chain(["clusterducks"]).collect();
    let entropy = zxcvbn::zxcvbn(password.expose_secret(), &known);
    let score = u8::from(entropy.score());
    if entropy.score() >= ENOUGH {
        return Ok(score);
    }
    let feedback = entropy.feedback();
    Err(Weak {
        score,
        warning: feedback.and_then(|all| all.warning()).map(|warning| warning.to_string()),
        suggestions: feedback
            .map(|all| all.suggestions().iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap(memory_kib: u32) -> Passwords {
        Passwords::with(Params::new(memory_kib, 1, 1, None).unwrap()).unwrap()
    }

    fn secret(text: &str) -> SecretString {
        text.into()
    }

    #[test]
    fn only_the_right_password_is_right() {
        let passwords = cheap(64);
        let kept = passwords.hash(&secret("correct horse")).unwrap();
        let verify = |text| passwords.verify(&secret(text), Some(&kept)).unwrap();
        assert_eq!(verify("correct horse"), Verdict::Right);
        assert_eq!(verify("correct horsf"), Verdict::Wrong);
        assert_eq!(verify(""), Verdict::Wrong);
    }

    #[test]
    fn a_password_is_kept_as_owasp_advises() {
        let kept = Passwords::new().unwrap().hash(&secret("correct horse")).unwrap();
        let text = kept.expose_secret();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert!(!format!("{kept:?}").contains("argon2id"));
    }

    #[test]
    fn the_same_password_is_never_kept_alike() {
        let hash = || cheap(64).hash(&secret("correct horse")).unwrap().expose_secret().to_owned();
        assert_ne!(hash(), hash());
    }

    #[test]
    fn a_password_kept_more_weakly_is_to_be_hashed_again() {
        let old = cheap(64).hash(&secret("correct horse")).unwrap();
        let verify = |passwords: Passwords, text| passwords.verify(&secret(text), Some(&old));
        assert_eq!(verify(cheap(128), "correct horse").unwrap(), Verdict::RightButOutdated);
        assert_eq!(verify(cheap(128), "wrong").unwrap(), Verdict::Wrong);
        assert_eq!(verify(cheap(32), "correct horse").unwrap(), Verdict::Right);
    }

    #[test]
    fn nobody_has_no_password_and_the_same_work_is_done() {
        let passwords = cheap(64);
        assert_eq!(passwords.verify(&secret(""), None).unwrap(), Verdict::Wrong);
        let kept = PasswordHash::new(&passwords.nobody).unwrap();
        assert!(!passwords.outdated(&kept), "it costs what a real one costs");
    }

    #[test]
    fn what_is_no_hash_and_what_is_too_long_is_told() {
        let broken = cheap(64).verify(&secret("x"), Some(&secret("plain text")));
        assert!(matches!(broken, Err(Error::Kept(_))), "{broken:?}");
        let long = cheap(64).hash(&secret(&"x".repeat(257)));
        assert!(matches!(long, Err(Error::TooLong)), "{long:?}");
    }

    #[test]
    fn an_easy_password_is_refused_with_advice() {
        let weak = judge(&secret("password1"), &[]).unwrap_err();
        assert!(weak.score <= 2 && weak.warning.is_some() && !weak.suggestions.is_empty());
        assert!(judge(&secret("quiet-otter-mends-lanterns"), &[]).unwrap() >= 3);
    }

    #[test]
    fn what_is_known_of_a_person_makes_no_password() {
        let about = ["Xanthe Vloqmuzier", "x.vloqmuzier@duckpond.example"];
        assert!(judge(&secret("xanthevloqmuzier"), &[]).is_ok());
        assert!(judge(&secret("xanthevloqmuzier"), &about).is_err());
        assert!(judge(&secret("Duckpond2026"), &about).is_err());
        assert!(judge(&secret("clusterducks"), &[]).is_err());
    }
}
