//! Channel programs (zfs-program(8)): what has to be looked at and changed in one transaction, or what would take a process
//! for each dataset otherwise.

use std::{collections::BTreeMap, time::Duration};

use model::name::Dataset;
use serde::Deserialize;

use super::{Error, Refusal};
use crate::cmd::{Cmd, Program};

/// Rolls clones back; see the file.
pub(super) const MAKE_NEW: &str = include_str!("make_new.lua");

/// Destroys one dataset; see the file.
pub(super) const DESTROY: &str = include_str!("destroy.lua");

/// Runs a program in a pool and returns what it refused. The text goes by standard input, names go as arguments.
pub(super) async fn run(
    pool: &str,
    program: &'static str,
    args: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<Dataset, Refusal>, Error> {
    let output = Cmd::new(Program::Zfs)
        .args(["program", "-j", pool, "-"])
        .args(args)
        .stdin_bytes(program)
        .timeout(Duration::from_secs(120))
        .run()
        .await?;
    parse_refused(&output)
}

fn parse_refused(json: &str) -> Result<BTreeMap<Dataset, Refusal>, Error> {
    #[derive(Deserialize)]
    struct Returned {
        #[serde(rename = "return")]
        refused: BTreeMap<Dataset, Refusal>,
    }
    let returned: Returned = serde_json::from_str(json)
        .map_err(|source| Error::Json { command: "zfs program", source })?;
    Ok(returned.refused)
}
