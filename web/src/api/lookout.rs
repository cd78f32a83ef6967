//! What somebody looks after: alerts, how servers and networks were over time, and the certificates that were given out.

use axum::{Json, extract::State, routing::get};
use panel::{
    alerts::Alert,
    ca::{Kind, Serial},
    noun::{Id, Network, Server},
    statistics::{NetworkSample, ServerSample, Span},
    store::{Booked, BookedQuery, BookedState, Cursor, MOST_ROWS, Page},
};
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Numbers, Query},
    refusal::Refusal,
};
use crate::{app::App, pages::alerts::solution};

/// An alert, in words too.
#[derive(Debug, Serialize, JsonSchema)]
struct Told {
    #[serde(flatten)]
    alert: Alert,
    /// What is wrong, as the console says it.
    text: String,
    /// The console's page on which it is mended.
    page: String,
}

impl From<Alert> for Told {
    fn from(alert: Alert) -> Self {
        Self { text: alert.cause.to_string(), page: solution(&alert), alert }
    }
}

/// The routes.
pub(super) fn lines() -> Vec<Line> {
    let number = || json!({ "type": "integer", "minimum": 1 });
    let text = || json!({ "type": "string" });
    let rows = json!({ "type": "integer", "minimum": 1, "maximum": MOST_ROWS });
    let operation = Operation::new;
    vec![
        Line::get(
            "/alerts",
            get(alerts),
            operation("alert", "listAlerts", "What somebody has to look after, the worst first")
                .asked("network", number(), "Only those of this network.")
                .answers::<Vec<Told>>(200, "The alerts; each is told for as long as it is true.")
                .refuses([404]),
        ),
        Line::get(
            "/servers/{id}/statistics",
            get(server),
            operation("server", "statisticsOfServer", "What a server was like")
                .asked("span", words::<Span>(), "By the minute for a day, or by the quarter of an hour for a month; a day unless told.")
                .answers::<Vec<ServerSample>>(200, "Samples in the order of time; where nobody looked there is none."),
        ),
        Line::get(
            "/networks/{network}/statistics",
            get(network),
            operation("network", "statisticsOfNetwork", "What a network was like")
                .asked("span", words::<Span>(), "By the minute for a day, or by the quarter of an hour for a month; a day unless told.")
                .answers::<Vec<NetworkSample>>(200, "Samples in the order of time; where nobody looked there is none."),
        ),
        Line::get(
            "/certificates",
            get(certificates),
            operation("certificate", "listCertificates", "What the authorities gave out, the newest first")
                .asked("kind", words::<Kind>(), "Only of this kind.")
                .asked("state", words::<BookedState>(), "Only those that are like this.")
                .asked("q", text(), "Only with this in the serial number or in a name.")
                .asked("cursor", text(), "Where to go on: `next` of the part before.")
                .asked("limit", rows, "How many; 50 unless told.")
                .answers::<Page<Booked>>(200, "A part of the list."),
        ),
        Line::get(
            "/certificates/{serial}",
            get(certificate),
            operation("certificate", "getCertificate", "One that was given out")
                .answers::<Booked>(200, "The certificate."),
        ),
    ]
}

/// The schema of a type of words, as a parameter has it.
fn words<T: JsonSchema>() -> Value {
    let mut schema = schema_for!(T);
    schema.remove("$schema");
    schema.to_value()
}

async fn alerts(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    mut query: Query,
) -> Result<Json<Vec<Told>>, Refusal> {
    let network = query.within("network", 1, i64::MAX).map(Id::<Network>::new);
    query.finish()?;
    let found = app.ask(move |panel| panel.alerts(actor, network)).await?;
    Ok(Json(found.into_iter().map(Told::from).collect()))
}

fn span(mut query: Query) -> Result<Span, Refusal> {
    let span = query.word("span");
    query.finish()?;
    Ok(span.unwrap_or(Span::Day))
}

async fn server(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
    query: Query,
) -> Result<Json<Vec<ServerSample>>, Refusal> {
    let (id, span) = (Id::<Server>::new(id), span(query)?);
    Ok(Json(app.ask(move |panel| panel.server_samples(actor, id, span)).await?))
}

async fn network(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
    query: Query,
) -> Result<Json<Vec<NetworkSample>>, Refusal> {
    let (id, span) = (Id::<Network>::new(id), span(query)?);
    Ok(Json(app.ask(move |panel| panel.network_samples(actor, id, span)).await?))
}

async fn certificates(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    mut asked: Query,
) -> Result<Json<Page<Booked>>, Refusal> {
    let query = BookedQuery {
        kind: asked.word("kind"),
        state: asked.word("state"),
        search: asked.text("q"),
        cursor: asked.text("cursor").map(Cursor::new),
        limit: asked.limit(),
    };
    asked.finish()?;
    let found = app.ask(move |panel| panel.issued(actor, &query)).await;
    Ok(Json(found.map_err(Refusal::of_query)?))
}

async fn certificate(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([serial]): Numbers<1, Serial>,
) -> Result<Json<Booked>, Refusal> {
    Ok(Json(app.ask(move |panel| panel.certificate(actor, serial)).await?))
}
