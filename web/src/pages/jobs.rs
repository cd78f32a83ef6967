//! Long operations: what runs, how far it is, what became of it.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use panel::{
    access::Verb,
    noun::{Id, Network, Noun, Place},
    operations::{Actor, Error, Panel},
    store::{Job, JobState, ListQuery},
};

use crate::{
    app::App,
    frame::{Frame, Seat, go, page_or_part},
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "jobs.html", blocks = ["list"])]
struct Jobs {
    frame: Frame,
    jobs: Vec<Job>,
}

impl Jobs {
    fn word(&self, state: &JobState) -> &'static str {
        match state {
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    fn may_cancel(&self, job: &Job) -> bool {
        let place = job.network.map_or(Place::Panel, Id::place);
        job.state == JobState::Running && self.frame.may(Verb::Change, Noun::Server, place)
    }
}

/// The jobs that the actor may see: all of them, or those of their networks.
///
/// # Errors
/// The store failed.
pub fn all(panel: &Panel, actor: Actor) -> Result<Vec<Job>, Error> {
    if panel.standings(actor)?.is_superadmin() {
        return panel.jobs(actor, None);
    }
    let query = ListQuery { limit: Some(200), ..ListQuery::default() };
    let mut jobs = Vec::new();
    for network in panel.list::<Network>(actor, &query)?.rows {
        jobs.extend(panel.jobs(actor, Some(network.id))?);
    }
    jobs.sort_by_key(|job| (job.ended_ms.is_some(), std::cmp::Reverse(job.id)));
    jobs.truncate(200);
    Ok(jobs)
}

/// The list.
///
/// # Errors
/// The store failed.
pub async fn list(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    let jobs = app.ask(move |panel| all(panel, seat.actor)).await?;
    let whole = Jobs { frame, jobs };
    page_or_part(&whole.frame, &whole, &whole.as_list())
}

/// Stops a job.
///
/// # Errors
/// There is none, or the actor may not change servers there.
pub async fn cancel(
    State(app): State<App>,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    app.change(move |panel| panel.cancel_job(seat.actor, id)).await?;
    Ok(go("/jobs"))
}
