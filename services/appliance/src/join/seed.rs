//! The box's own part of the seed file `clusterducks.toml` on the boot partition: its name and its join code. The other keys
//! belong to the services, which refuse what they don't know.

use std::path::Path;

use host::files;
use model::name::ServerName;
use secrecy::SecretString;
use serde::Deserialize;

/// What the box takes from the file.
#[derive(Debug, Default, Deserialize)]
pub struct Seed {
    /// The name that the box shall have, which it asks the panel for.
    pub hostname: Option<ServerName>,
    /// How it joins its panel by itself.
    pub join: Option<SeedJoin>,
}

/// The table `[join]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedJoin {
    /// The join code.
    pub code: SecretString,
}

/// Why a seed file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("no access to the seed file")]
    File(#[from] files::Error),
    /// Not the TOML that it should be. Neither the line is quoted nor what toml says of it: both may hold the code.
    #[error("line {line} of the seed file clusterducks.toml is not understood")]
    Toml {
        /// Where, from 1.
        line: usize,
    },
}

impl Error {
    /// Whether the same file may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Toml { .. } => false,
        }
    }
}

/// Reads the file; without one there is nothing in it.
///
/// # Errors
/// It can't be read, or is no seed file.
pub fn read(path: &Path) -> Result<Seed, Error> {
    let bytes = files::read_if_exists(path)?.unwrap_or_default();
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Result<Seed, Error> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Error::Toml { line }
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_code_is_found_beside_what_the_services_know() {
        let text = "hostname = \"box\"\n[management]\nmac = \"52:54:00:00:00:01\"\n\n[join]\n# until then\ncode = \"AAAAA-BBBBB\"\n";
        let join = parse(text).unwrap().join.unwrap();
        assert_eq!(join.code.expose_secret(), "AAAAA-BBBBB");
        assert!(!format!("{join:?}").contains("AAAAA"));
        assert!(parse("").unwrap().join.is_none());
    }

    #[test]
    fn the_sample_on_the_image_has_a_code_once_its_lines_are_switched_on() {
        let sample = include_str!("../../../../images/agent/clusterducks.toml");
        assert!(parse(sample).unwrap().join.is_none());
        let on: String =
            sample.lines().map(|l| format!("{}\n", l.trim_start_matches("# "))).collect();
        let tail = on.split_once("[join]").map(|(_, tail)| format!("[join]{tail}")).unwrap();
        assert!(parse(&tail).unwrap().join.is_some());
    }

    #[test]
    fn a_bad_file_names_the_line_and_never_quotes_it() {
        let error = parse("hostname = \"x\"\n[join]\ncode = \"AAAAA-BBBBB\n").unwrap_err();
        assert!(matches!(error, Error::Toml { line: 3 }), "{error:?}");
        assert!(!error.to_string().contains("AAAAA"));
        for text in [
            "[join]\nkode = \"AAAAA\"\n",
            "[join]\ncode.AAAAA = 1\n",
            "[join]\nAAAAA = 1\n",
            "\njoin = \"AAAAA\"\n",
            "\nhostname = \"AAAAA_\"\n",
        ] {
            let error = parse(text).unwrap_err();
            assert!(matches!(error, Error::Toml { line: 2 }), "{text}: {error:?}");
            let told = format!("{} {error:?}", host::seam::chain(&error));
            assert!(!told.contains("AAAAA"), "{text}: {told}");
        }
    }
}
