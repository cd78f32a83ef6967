//! What a box remembers of joining, in one file: a reader after a power cut finds one step or the next, never both.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use host::files::{self, nonblocking};
use model::{
    code::{self, JoinCode},
    join::Joined,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::identity;

/// The file holds a secret while a code is in use.
const MODE: u32 = 0o600;

/// Why nothing is remembered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error("no access to what this box remembers of joining")]
    File(#[from] files::Error),
    /// It is not what was written.
    #[error("what this box remembers of joining is damaged: {}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// Its folder can't be made.
    #[error("can't make {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Whether the same may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) | Self::Folder { .. } => true,
            Self::Damaged { .. } => false,
        }
    }
}

/// A code that is in use. It is written to the file, and shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CodeText(String);

impl fmt::Debug for CodeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeText([REDACTED])")
    }
}

impl CodeText {
    /// The code.
    ///
    /// # Errors
    /// The file was written by another version, whose codes had another form.
    pub fn parse(&self) -> Result<JoinCode, code::Error> {
        JoinCode::parse(&self.0)
    }
}

/// How far it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Nobody gave a code.
    #[default]
    Nothing,
    /// A code is to be used; the panel may have seen it.
    Code {
        /// The code.
        code: CodeText,
        /// Whether the panel said that a person has to confirm.
        unconfirmed: bool,
    },
    /// The panel refused the code.
    Refused {
        /// Why, in words.
        why: String,
    },
    /// The panel took the box.
    Joined {
        /// Where it is.
        panel: String,
        /// What it gave.
        joined: Box<Joined>,
    },
}

/// All that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The digest of the seed file's code that was taken last: it is taken once.
    pub seed_sha256: Option<String>,
    /// How far the last code led.
    pub step: Step,
}

impl Kept {
    /// Takes a code from the seed file, unless it is the one that was taken before, or the box has joined. Tells whether it did.
    pub fn take_seed(&mut self, typed: &SecretString, code: &JoinCode) -> bool {
        let digest = Some(digest(typed));
        if self.seed_sha256 == digest || matches!(self.step, Step::Joined { .. }) {
            return false;
        }
        self.seed_sha256 = digest;
        self.take(code)
    }

    /// Takes a code from a person. Tells whether it did: a box that has joined takes none.
    pub fn take(&mut self, code: &JoinCode) -> bool {
        let Ok(text) = code.text() else { return false };
        if matches!(self.step, Step::Joined { .. }) {
            return false;
        }
        let code = CodeText(text.expose_secret().to_owned());
        self.step = Step::Code { code, unconfirmed: false };
        true
    }
}

fn digest(code: &SecretString) -> String {
    hex::encode(Sha256::digest(code.expose_secret().trim()))
}

/// The file.
#[derive(Debug, Clone)]
pub struct Store(PathBuf);

impl Store {
    /// Takes the folder of the box's state, which it makes.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder)
            .map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
        Ok(Self(folder.join("join.json")))
    }

    /// What is remembered.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(&self) -> Result<Kept, Error> {
        let Some(bytes) = files::read_if_exists(&self.0)? else { return Ok(Kept::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|source| Error::Damaged { path: self.0.clone(), source })
    }

    /// Forgets what is damaged, and leaves it beside the file for who wants to look at it.
    ///
    /// # Errors
    /// It can't be moved.
    pub fn set_aside(&self) -> Result<(), Error> {
        Ok(identity::set_aside(&self.0)?)
    }

    /// Remembers this.
    ///
    /// # Errors
    /// It can't be written; what was remembered before still is.
    pub async fn write(&self, kept: &Kept) -> Result<(), Error> {
        let text = serde_json::to_vec(kept)
            .map_err(|source| Error::Damaged { path: self.0.clone(), source })?;
        nonblocking::write_atomic(&self.0, text, MODE).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use model::code::{Address, JoinSecret, Way};

    use super::*;

    fn code(secret: u8) -> JoinCode {
        let host = "panel.example".to_owned().try_into().unwrap();
        let panel = Address { host, port: 443 };
        let secret = JoinSecret::new([secret; 8]);
        JoinCode::new(Way::Panel, panel, &[7; 32], secret, UNIX_EPOCH, Duration::ZERO)
    }

    #[test]
    fn a_seed_is_taken_once_and_another_one_anew() {
        let mut kept = Kept::default();
        let (first, second) = (code(1), code(2));
        assert!(kept.take_seed(&first.text().unwrap(), &first));
        kept.step = Step::Refused { why: "used".to_owned() };
        assert!(!kept.take_seed(&first.text().unwrap(), &first));
        assert!(kept.take_seed(&second.text().unwrap(), &second));
    }

    #[test]
    fn a_code_comes_back_from_the_file_and_is_never_printed() {
        let mut kept = Kept::default();
        assert!(kept.take(&code(1)));
        let file = serde_json::to_string(&kept).unwrap();
        let read: Kept = serde_json::from_str(&file).unwrap();
        assert_eq!(read, kept);
        let Step::Code { code: text, .. } = &read.step else { panic!("{read:?}") };
        assert!(text.parse().unwrap().secret.is(&code(1).secret));
        assert!(format!("{kept:?}").contains("CodeText([REDACTED])"));
    }
}
