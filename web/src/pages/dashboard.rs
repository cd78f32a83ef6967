//! The first page: what is wrong, the way from nothing to a booted device, and the networks.

use askama::Template;
use axum::{extract::State, response::Response};
use panel::{
    noun::Network,
    store::{Job, JobState, ListQuery},
};

use super::{
    guide::{Step, steps},
    jobs,
    network::{Line, lines},
    server::State as Condition,
};
use crate::{
    app::App,
    frame::{Frame, Seat, page_or_part},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "dashboard.html", blocks = ["live"])]
struct Dashboard {
    frame: Frame,
    lines: Vec<Line>,
    jobs: Vec<Job>,
    guide: Vec<Step>,
    waiting: usize,
    devices: u64,
}

impl Dashboard {
    /// Servers that somebody has to look after.
    fn troubled(&self) -> Vec<(&Line, &panel::store::Health, Condition)> {
        let each = self.lines.iter().flat_map(|line| {
            line.servers.iter().map(move |(health, state)| (line, health, *state))
        });
        each.filter(|(_, _, state)| matches!(state, Condition::Silent | Condition::Failing))
            .collect()
    }

    /// Whether the way lies behind.
    fn arrived(&self) -> bool {
        self.guide.iter().all(|step| step.done)
    }
}

/// The page.
///
/// # Errors
/// The store failed.
pub async fn show(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    let actor = seat.actor;
    let admin = frame.people();
    let found = app.ask(move |panel| {
        let query = ListQuery { limit: Some(200), ..ListQuery::default() };
        let networks = panel.list::<Network>(actor, &query)?.rows;
        let lines = lines(panel, actor, networks)?;
        let jobs = jobs::all(panel, actor)?;
        let guide = if admin { steps(panel, actor, &lines)? } else { Vec::new() };
        Ok((lines, jobs, guide, panel.waiting_joins(actor)?.len()))
    });
    let (lines, mut jobs, guide, waiting) = found.await?;
    jobs.retain(|job| job.state == JobState::Running);
    let devices = lines.iter().map(|line| line.devices).sum();
    let whole = Dashboard { frame, lines, jobs, guide, waiting, devices };
    page_or_part(&whole.frame, &whole, &whole.as_live())
}
