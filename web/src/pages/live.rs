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

use crate::{api::caller::Caller, app::App, frame::Seat};

/// Pages ask anew at most this often, however much happens.
const PAUSE: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The stream. It ends with the session.
pub async fn events(State(app): State<App>, seat: Seat) -> Response {
    told(app, Caller { actor: seat.actor, session: Some(seat.session) })
}

/// The stream, for whoever may have it: it ends when they count no more.
pub(crate) fn told(app: App, caller: Caller) -> Response {
    let changes = app.changes();
    let stream = stream::unfold((app, changes), move |(app, mut changes)| async move {
        changes.changed().await.ok()?;
        tokio::time::sleep(PAUSE).await;
        let number = *changes.borrow_and_update();
        // Whoever was signed out meanwhile hears nothing more.
        let counts = app.ask(move |panel| Ok(caller.counts(panel))).await.ok()?;
        let event = Event::default().event("changed").data(number.to_string());
        counts.then_some((Ok::<_, Infallible>(event), (app, changes)))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
