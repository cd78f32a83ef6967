//! A new password for somebody else: the first one of a new user, or one in the place of what they forgot. It is made here, shown
//! once, and theirs to change.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use model::code::JoinSecret;
use panel::{
    access::Verb,
    noun::{Id, Noun, Stored, User},
    operations::Actor,
    secret::ExposeSecret as _,
};

use crate::{
    app::App,
    fields::Fields,
    frame::{Frame, Seat, go, page},
    problem::Problem,
};

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    frame: Frame,
    user: Stored<User>,
    /// The new one, for the only time.
    made: Option<String>,
}

/// Whom it is for; nobody who may not be changed.
async fn whom(app: &App, frame: &Frame, actor: Actor, id: i64) -> Result<Stored<User>, Problem> {
    let user = app.ask(move |panel| panel.get::<User>(actor, Id::new(id))).await?;
    if frame.may(Verb::Change, Noun::User, user.place) {
        Ok(user)
    } else {
        Err(Problem::forbidden(Verb::Change, Noun::User))
    }
}

fn is_own(seat: &Seat, user: &Stored<User>) -> bool {
    matches!(seat.actor, Actor::User(own) if own == user.id)
}

/// Asks whether one shall be made.
///
/// # Errors
/// There is no such user that the actor may change.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let user = whom(&app, &frame, seat.actor, id).await?;
    if is_own(&seat, &user) {
        return Ok(go("/account"));
    }
    page(StatusCode::OK, &PasswordPage { frame, user, made: None })
}

/// Makes one, and shows it.
///
/// # Errors
/// There is no such user that the actor may change.
pub async fn make(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    let user = whom(&app, &frame, actor, id).await?;
    // Whoever knows their own changes it with it.
    if is_own(&seat, &user) {
        return Ok(go("/account"));
    }
    let password = JoinSecret::new(rand::random()).text();
    let text = password.expose_secret().to_owned();
    let hash = app.hash(move |passwords| passwords.hash(&password)).await?;
    let (whose, drop_factors) = (user.id, fields.has("factors"));
    app.change(move |panel| {
        panel.set_password(actor, whose, hash.expose_secret())?;
        if drop_factors {
            panel.drop_certificates(actor, whose)?;
            panel.set_totp(actor, whose, None)?;
        }
        Ok(())
    })
    .await?;
    page(StatusCode::OK, &PasswordPage { frame, user, made: Some(text) })
}
