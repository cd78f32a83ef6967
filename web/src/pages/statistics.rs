//! Charts of servers and networks, of a day or a month.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use panel::{
    noun::{Id, Server},
    operations::{Actor, Error, Panel},
    statistics::{NetworkSample, ServerSample, Span, downsample},
};

use super::{form::Site, list::Asked};
use crate::{
    app::App,
    chart::{Chart, Data, Form, Series, Unit},
    frame::{Frame, Seat, page_or_part},
    problem::Problem,
};

const MINUTE_MS: u64 = 60_000;

/// The time that a page asks for.
pub(crate) fn asked_span(asked: &Asked) -> Span {
    let known = Span::ALL.into_iter().find(|span| asked.is("span", span.word()));
    known.unwrap_or(Span::Day)
}

/// How long a slot of a line is: some hundred of them fill the picture.
fn line_ms(span: Span) -> u64 {
    match span {
        Span::Day => 5 * MINUTE_MS,
        Span::Month => 120 * MINUTE_MS,
    }
}

/// How long a slot of a bar is: an hour, or a day.
fn bar_ms(span: Span) -> u64 {
    match span {
        Span::Day => 60 * MINUTE_MS,
        Span::Month => 24 * 60 * MINUTE_MS,
    }
}

/// What all charts of a page are drawn on.
struct Sheet {
    span: Span,
    now_ms: u64,
}

impl Sheet {
    fn draw(
        &self,
        (id, title): (&'static str, &'static str),
        (unit, form, slot_ms): (Unit, Form, u64),
        series: Vec<Series>,
    ) -> Chart {
        let (from_ms, until_ms) = (self.now_ms.saturating_sub(self.span.kept_ms()), self.now_ms);
        Chart::draw(&Data { id, title, unit, form, from_ms, until_ms, slot_ms, series })
    }
}

/// The charts of a server.
///
/// # Errors
/// There is no such server that the actor may see.
pub(crate) fn of_server(
    panel: &Panel,
    actor: Actor,
    server: Id<Server>,
    span: Span,
) -> Result<Vec<Chart>, Error> {
    let slot_ms = line_ms(span);
    let samples = downsample(&panel.server_samples(actor, server, span)?, slot_ms);
    let line = |name, of: fn(&ServerSample) -> f64| Series {
        name,
        values: samples.iter().map(|sample| (sample.slot_ms, of(sample))).collect(),
    };
    let charts = Sheet { span, now_ms: panel.now_ms() };
    let space = vec![
        line("used of all pools", |s| s.used_bytes),
        line("volumes", |s| s.volumes_bytes),
        line("groups", |s| s.groups_bytes),
        line("devices", |s| s.devices_bytes),
        line("vDisks", |s| s.vdisks_bytes),
    ];
    let use_of = vec![line("devices", |s| s.devices_up), line("sessions", |s| s.sessions)];
    Ok(vec![
        charts.draw(("space", "Space by tier"), (Unit::Bytes, Form::Line, slot_ms), space),
        charts.draw(
            ("sessions", "Devices and their sessions"),
            (Unit::Count, Form::Line, slot_ms),
            use_of,
        ),
    ])
}

/// The charts of a network.
fn of_network(
    span: Span,
    now_ms: u64,
    lines: &[NetworkSample],
    quarters: &[NetworkSample],
) -> Vec<Chart> {
    let charts = Sheet { span, now_ms };
    let (line_ms, bar_ms) = (line_ms(span), bar_ms(span));
    let lines = downsample(lines, line_ms);
    let up = lines.iter().map(|sample| (sample.slot_ms, sample.devices_up)).collect();
    let from_ms = now_ms.saturating_sub(span.kept_ms());
    let recent: Vec<_> =
        quarters.iter().filter(|sample| sample.slot_ms >= from_ms).copied().collect();
    let bars = downsample(&recent, bar_ms);
    let bar = |name, of: fn(&NetworkSample) -> f64| Series {
        name,
        values: bars.iter().map(|sample| (sample.slot_ms, of(sample))).collect(),
    };
    let timed = |name, of: fn(&NetworkSample) -> Option<f64>| Series {
        name,
        values: bars.iter().filter_map(|s| Some((s.slot_ms, of(s)?))).collect(),
    };
    let titles = match span {
        Span::Day => ("Boots per hour", "How long boots took, by the hour"),
        Span::Month => ("Boots per day", "How long boots took, by the day"),
    };
    let boots = vec![bar("came up", |s| s.boots), bar("failed", |s| s.failed)];
    let took = vec![timed("half of them", |s| s.p50_ms), timed("95 % of them", |s| s.p95_ms)];
    vec![
        charts.draw(
            ("up", "Devices that are up"),
            (Unit::Count, Form::Line, line_ms),
            vec![Series { name: "devices", values: up }],
        ),
        charts.draw(("boots", titles.0), (Unit::Count, Form::Bar, bar_ms), boots),
        charts.draw(("took", titles.1), (Unit::Milliseconds, Form::Line, bar_ms), took),
    ]
}

#[derive(Debug, Template)]
#[template(path = "statistics.html", blocks = ["live"])]
struct Statistics {
    frame: Frame,
    site: Site,
    span: Span,
    charts: Vec<Chart>,
}

/// The charts of a network.
///
/// # Errors
/// There is no such network that the actor may see.
pub async fn network(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    asked: Asked,
) -> Result<Response, Problem> {
    let (actor, id, span) = (seat.actor, Id::new(id), asked_span(&asked));
    let found = app.ask(move |panel| {
        let site = Site::of(panel, actor, id)?;
        let lines = panel.network_samples(actor, id, span)?;
        let quarters = panel.network_samples(actor, id, Span::Month)?;
        Ok((site, of_network(span, panel.now_ms(), &lines, &quarters)))
    });
    let (site, charts) = found.await?;
    let whole = Statistics { frame, site, span, charts };
    page_or_part(&whole.frame, &whole, &whole.as_live())
}
