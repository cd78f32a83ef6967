//! `make bench`: measures, prints `name value unit` lines, and writes `target/bench.json`. Every comparison has both of its sides
//! in the same run. A figure that could not be measured is printed with the reason and left out of the file: no number stands
//! here that was not measured. `ONLY=prefix` measures only the figures whose names begin so.

mod boot;
mod figures;
mod guest;
mod http;
mod load;
mod panel;
mod provision;
mod storm;
mod tunnel;

use anyhow::{Result, bail};
use figures::{Figures, Section};

/// All figures, in the order in which they are measured.
const SECTIONS: [&Section; 8] = [
    &http::SECTION,
    &provision::SECTION,
    &storm::SECTION,
    &boot::VERSUS_LOCAL,
    &boot::AGENT,
    &boot::IMAGE,
    &tunnel::SECTION,
    &panel::SECTION,
];

#[tokio::main]
async fn main() -> Result<()> {
    let mut figures = Figures::new(std::env::var("ONLY").unwrap_or_default());
    let measured = async {
        for section in SECTIONS {
            figures.measure(section).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = measured => ended,
        _ = tokio::signal::ctrl_c() => bail!("stopped; every machine was switched off"),
    }
}
