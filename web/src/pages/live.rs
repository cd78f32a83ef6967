//! What tells pages that something is different: a stream of server-sent events that says only that, so that each page asks anew
//! for its own part, as whoever looks at it may see it.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream;

use crate::{app::App, frame::Seat};

/// Pages ask anew at most this often, however much happens.
const PAUSE: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The stream. It ends with the session.
pub async fn events(State(app): State<App>, seat: Seat) -> Response {
    let changes = app.changes();
    let stream = stream::unfold((app, seat, changes), |(app, seat, mut changes)| async move {
        changes.changed().await.ok()?;
        tokio::time::sleep(PAUSE).await;
        let number = *changes.borrow_and_update();
        let actor = seat.actor;
        // Whoever was signed out meanwhile hears nothing more.
        let sessions = app.ask(move |panel| {
            let panel::operations::Actor::User(user) = actor else { return Ok(Vec::new()) };
            panel.sessions(actor, user)
        });
        let alive = sessions.await.ok()?.iter().any(|session| session.id == seat.session);
        let event = Event::default().event("changed").data(number.to_string());
        alive.then_some((Ok::<_, Infallible>(event), (app, seat, changes)))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
