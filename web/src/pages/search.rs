//! Search over everything that the person may see.

use askama::Template;
use axum::{extract::State, response::Response};
use panel::{
    noun::{Id, Network, Place},
    operations::{Error, Hit},
};
use std::collections::BTreeMap;

use super::list::Asked;
use crate::{
    app::App,
    frame::{Frame, Seat, page_or_part},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "search.html", blocks = ["list"])]
struct Search {
    frame: Frame,
    asked: Asked,
    hits: Vec<Hit>,
    networks: BTreeMap<i64, String>,
}

impl Search {
    /// Where a hit lives, when that is a network.
    fn network(&self, hit: &Hit) -> &str {
        match hit.place {
            Place::Network(network) => {
                self.networks.get(&network.number()).map(String::as_str).unwrap_or_default()
            }
            Place::Panel | Place::Organization(_) => "",
        }
    }
}

/// What was found.
///
/// # Errors
/// The store failed.
pub async fn find(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    asked: Asked,
) -> Result<Response, Problem> {
    let text = asked.get("q").to_owned();
    let found = app.ask(move |panel| {
        let hits = panel.search(seat.actor, &text)?;
        let mut networks = BTreeMap::new();
        for hit in &hits {
            let Place::Network(network) = hit.place else { continue };
            if networks.contains_key(&network.number()) {
                continue;
            }
            match panel.get::<Network>(seat.actor, Id::new(network.number())) {
                Ok(network) => {
                    networks.insert(network.id.number(), network.value.name.to_string());
                }
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((hits, networks))
    });
    let (hits, networks) = found.await?;
    let whole = Search { frame, asked, hits, networks };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}
