//! The panel's own settings and its backup, for superadmins.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use panel::{
    operations::{Panel, Settings},
    secret::SecretString,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Body, IfMatch},
    records::tagged,
    refusal::Refusal,
};
use crate::{app::App, pages::settings};

/// The settings as they are.
#[derive(Debug, Serialize, JsonSchema)]
struct Shown {
    settings: Settings,
    /// When a backup was made last, in milliseconds since 1970.
    backup_made_ms: Option<u64>,
}

/// What locks a backup.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Lock {
    #[schemars(length(min = settings::LEAST_PASS_PHRASE))]
    pass_phrase: String,
}

/// The routes.
pub(super) fn lines() -> Vec<Line> {
    let operation = |id, summary| Operation::new("settings", id, summary);
    vec![
        Line::get(
            "/settings",
            get(show),
            operation("getSettings", "The panel's settings")
                .answers::<Shown>(200, "The settings.")
                .with("ETag", "Their version.")
                .refuses([403]),
        ),
        Line::put(
            "/settings",
            put(change),
            operation("changeSettings", "Gives the panel other settings")
                .takes::<Settings>()
                .versioned()
                .answers::<Shown>(200, "The settings.")
                .with("ETag", "Their version.")
                .refuses([403]),
        ),
        Line::post(
            "/settings/backup",
            post(back_up),
            operation("backUp", "Makes a backup, of which a new panel is made")
                .takes::<Lock>()
                .answers_as::<String>(
                    200,
                    settings::BACKUP,
                    "The backup: age(1) opens it by the pass phrase.",
                )
                .refuses([403]),
        ),
    ]
}

async fn answer(app: &App, ask: Caller) -> Result<Response, Refusal> {
    let found = app.ask(move |panel| panel.settings(ask.actor)).await?;
    let (version, settings, backup) = found;
    Ok((tagged(version), Json(Shown { settings, backup_made_ms: backup.made_ms })).into_response())
}

async fn show(State(app): State<App>, caller: Caller) -> Result<Response, Refusal> {
    answer(&app, caller).await
}

async fn change(
    State(app): State<App>,
    caller: Caller,
    IfMatch(version): IfMatch,
    Body(value): Body<Settings>,
) -> Result<Response, Refusal> {
    let actor = caller.actor;
    app.change(move |panel: &Panel| panel.change_settings(actor, version, &value)).await?;
    answer(&app, caller).await
}

async fn back_up(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Body(lock): Body<Lock>,
) -> Result<Response, Refusal> {
    Ok(settings::backup_of(&app, actor, SecretString::from(lock.pass_phrase)).await?)
}
