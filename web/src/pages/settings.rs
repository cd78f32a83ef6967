//! The panel's own settings, and its backup.

use std::io::Read as _;

use askama::Template;
use axum::{
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::Response,
};
use futures_util::stream;
use panel::{
    alerts::BackupFacts,
    noun::{Id, Organization},
    operations::{Actor, Settings},
    secret::{ExposeSecret as _, SecretString},
    store::{FieldError, ListQuery},
};

use super::form::FormView;
use crate::{
    app::App,
    backup,
    fields::{Fields, Reader},
    folder::Folder,
    format,
    frame::{Frame, Seat, download, go, page},
    problem::Problem,
};

/// Shorter pass phrases are guessed: the file may be tried for years.
pub(crate) const LEAST_PASS_PHRASE: usize = 12;
/// How much of a backup is in memory while it is fetched.
const CHUNK_BYTES: usize = 256 << 10;

#[derive(Debug, Template)]
#[template(path = "panel-settings.html")]
struct PanelSettings {
    frame: Frame,
    form: FormView,
    organizations: Vec<(i64, String)>,
    backup: BackupFacts,
}

fn fields(settings: &Settings) -> Fields {
    let mut fields = Fields::default();
    fields.put("session_hours", settings.session_hours);
    fields.put("public_names", settings.public_names.join("\n"));
    fields.put_some("notices_of", settings.notices_of);
    fields
}

fn read(fields: &Fields) -> Result<Settings, Vec<FieldError>> {
    let mut form = Reader::new(fields);
    let (session_hours, public_names) = (form.required("session_hours"), form.list("public_names"));
    let notices_of = form.optional::<i64>("notices_of");
    let read = (|| {
        Some(Settings {
            session_hours: session_hours?,
            public_names: public_names?,
            notices_of: notices_of?.map(Id::new),
        })
    })();
    form.finish(read)
}

async fn shown(
    app: &App,
    frame: Frame,
    actor: Actor,
    form: Option<(StatusCode, FormView)>,
) -> Result<Response, Problem> {
    let found = app.ask(move |panel| {
        let query = ListQuery { limit: Some(200), ..ListQuery::default() };
        Ok((panel.settings(actor)?, panel.list::<Organization>(actor, &query)?.rows))
    });
    let ((version, settings, backup), organizations) = found.await?;
    let organizations =
        organizations.into_iter().map(|row| (row.id.number(), row.value.name.to_string()));
    let (status, mut form) = form.unwrap_or_else(|| {
        (StatusCode::OK, FormView { fields: fields(&settings), ..FormView::default() })
    });
    form.version = form.version.or(Some(version));
    let organizations = organizations.collect();
    page(status, &PanelSettings { frame, form, organizations, backup })
}

/// The settings.
///
/// # Errors
/// The actor is no superadmin.
pub async fn show(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    shown(&app, frame, seat.actor, None).await
}

/// Changes them.
///
/// # Errors
/// The actor is no superadmin.
pub async fn change(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    sent: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    app.ask(move |panel| panel.settings(actor)).await?;
    let version = sent.get("version").parse().unwrap_or(0);
    let done = match read(&sent) {
        Ok(settings) => {
            app.change(move |panel| panel.change_settings(actor, version, &settings)).await
        }
        Err(faults) => Err(Problem::Invalid(faults)),
    };
    let (status, faults) = match done {
        Ok(()) => return Ok(go("/settings")),
        Err(Problem::Invalid(faults)) => (StatusCode::UNPROCESSABLE_ENTITY, faults),
        Err(Problem::Conflict { .. }) => {
            let message = "somebody else changed the settings meanwhile: go back and begin anew";
            (StatusCode::CONFLICT, vec![FieldError::new("session_hours", message)])
        }
        Err(problem) => return Err(problem),
    };
    let form = FormView { version: Some(version), ..FormView::faulty(sent, faults) };
    shown(&app, frame, actor, Some((status, form))).await
}

/// Makes a backup, and sends it.
///
/// # Errors
/// The actor is no superadmin; the backup can't be made.
pub async fn back_up(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    sent: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    app.ask(move |panel| panel.may_back_up(actor)).await?;
    let phrase = sent.raw("pass_phrase");
    let mut faults = Vec::from_iter(too_short(phrase));
    if phrase != sent.raw("again") {
        faults.push(FieldError::new("again", "this is not the same"));
    }
    if !faults.is_empty() {
        let settings = app.ask(move |panel| panel.settings(actor)).await?.1;
        let form = FormView { fields: fields(&settings), faults, ..FormView::default() };
        let form = Some((StatusCode::UNPROCESSABLE_ENTITY, form));
        return shown(&app, frame, actor, form).await;
    }
    backup_of(&app, actor, SecretString::from(phrase)).await
}

/// What is wrong with a pass phrase that is too short.
fn too_short(phrase: &str) -> Option<FieldError> {
    let message = || {
        format!(
            "use {LEAST_PASS_PHRASE} characters or more: whoever has the file may guess for years"
        )
    };
    let short = phrase.chars().count() < LEAST_PASS_PHRASE;
    short.then(|| FieldError::new("pass_phrase", message()))
}

/// What a backup is called where types of files are told.
pub(crate) const BACKUP: &str = "application/octet-stream";

/// Makes a backup for the actor, and answers it as a file.
pub(crate) async fn backup_of(
    app: &App,
    actor: Actor,
    phrase: SecretString,
) -> Result<Response, Problem> {
    app.ask(move |panel| panel.may_back_up(actor)).await?;
    if let Some(fault) = too_short(phrase.expose_secret()) {
        return Err(Problem::Invalid(vec![fault]));
    }
    let shared = app.shared();
    let made = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let place = shared.store().path().parent().unwrap_or_else(|| std::path::Path::new("."));
        Ok(backup::make(&shared, &Folder::open(place)?, phrase)?)
    });
    let file = made.await.map_err(Problem::broken)?.map_err(Problem::broken)?;
    app.change(move |panel| panel.note_backup(actor)).await?;
    let day: String =
        format::iso(&format::ms(std::time::SystemTime::now())).chars().take(10).collect();
    let name = format!("clusterducks-panel-{day}.age");
    Ok(download(&name, BACKUP, Body::from_stream(chunks(file))))
}

/// A file's bytes, some at a time.
fn chunks(file: std::fs::File) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let bytes = file.read(&mut chunk)?;
            chunk.truncate(bytes);
            Ok::<_, std::io::Error>((chunk, file))
        });
        let (chunk, file) = read.await.map_err(std::io::Error::other)??;
        Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), file)))
    })
}
