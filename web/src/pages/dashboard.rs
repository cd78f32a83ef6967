//! The first page: what is wrong, the way from nothing to a booted device, and the networks.

use askama::Template;
use axum::{extract::State, response::Response};
use panel::{
    alerts::{Alert, Cause},
    boots::LiveBoot,
    noun::Network,
    store::{Job, JobState, ListQuery},
};

use super::{
    guide::{Step, steps},
    jobs,
    network::{Line, lines},
};
use crate::{
    app::App,
    frame::{Frame, Seat, page_or_part},
    problem::Problem,
};

/// How many alerts stand here; the worst come first, and all have a page of their own.
const ALERTS: usize = 12;
/// How many boots that are under way.
const BOOTS: usize = 20;

#[derive(Debug, Template)]
#[template(path = "dashboard.html", blocks = ["live"])]
struct Dashboard {
    frame: Frame,
    lines: Vec<Line>,
    jobs: Vec<Job>,
    alerts: Vec<Alert>,
    alerts_in_all: usize,
    boots: Vec<LiveBoot>,
    guide: Vec<Step>,
    waiting: usize,
    devices: u64,
}

impl Dashboard {
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
        let (alerts, boots) = (panel.alerts(actor, None)?, panel.live_boots(actor, BOOTS)?);
        Ok((lines, jobs, guide, panel.waiting_joins(actor)?.len(), alerts, boots))
    });
    let (lines, mut jobs, guide, waiting, mut alerts, boots) = found.await?;
    let alerts_in_all = alerts.len();
    alerts.truncate(ALERTS);
    jobs.retain(|job| job.state == JobState::Running);
    let devices = lines.iter().map(|line| line.devices).sum();
    let whole =
        Dashboard { frame, lines, jobs, alerts, alerts_in_all, boots, guide, waiting, devices };
    page_or_part(&whole.frame, &whole, &whole.as_live())
}
