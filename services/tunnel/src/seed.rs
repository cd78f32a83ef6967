//! The tunnel's part of the seed file `clusterducks.toml` on the boot partition: the pairing code that a box without a screen
//! has. The other keys belong to the box.

use std::path::Path;

use host::{files, seam::chain};
use model::code::PairingCode;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
struct Seed {
    pair: Option<SeedPair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedPair {
    code: PairingCode,
}

/// Why a seed file is not taken.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no access to the seed file")]
    File(#[from] files::Error),
    /// Neither the line is quoted nor what toml says of it: both may hold the code.
    #[error("line {line} of the seed file clusterducks.toml is not understood")]
    Toml { line: usize },
}

/// The code of the file, if it has one. A file that can't be taken is told and left out: the tunnel shows a code of its own.
pub fn open(path: &Path) -> Option<PairingCode> {
    read(path).unwrap_or_else(|error| {
        tracing::error!(error = chain(&error), "the tunnel goes on without its seed file");
        None
    })
}

fn read(path: &Path) -> Result<Option<PairingCode>, Error> {
    let bytes = files::read_if_exists(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let seed: Seed = toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        Error::Toml { line: before.matches('\n').count() + 1 }
    })?;
    Ok(seed.pair.map(|pair| pair.code))
}

#[cfg(test)]
mod tests {
    use model::code::OneTime;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_code_is_found_beside_what_the_box_knows_and_a_bad_file_is_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clusterducks.toml");
        let code = PairingCode { secret: OneTime::new([7; 16]).into(), key: None };
        let text = code.text().expose_secret().to_owned();
        let put = |content: &str| {
            files::write_atomic(&file, content.as_bytes(), 0o600).unwrap();
            read(&file)
        };
        assert!(read(&file).unwrap().is_none());
        let found = put(&format!("hostname = \"box\"\n[pair]\ncode = \"{text}\"\n")).unwrap();
        assert!(found.unwrap().secret.is(&code.secret));
        assert!(put("[management]\nmac = \"52:54:00:00:00:01\"\n").unwrap().is_none());

        let error = put("[pair]\ncode = \"AAAAA\"\n").unwrap_err();
        assert!(matches!(error, Error::Toml { line: 2 }), "{error:?}");
        assert!(!format!("{} {error:?}", chain(&error)).contains("AAAAA"));
        assert!(open(&file).is_none());
    }
}
