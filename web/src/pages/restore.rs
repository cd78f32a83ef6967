//! Restoring at the first start: whoever can read the box's log or screen may give a new panel the state of another one. The file
//! goes to the disk as it comes, for the memory of a small box does not hold it, and not before the code was right.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use askama::Template;
use axum::{
    extract::{FromRequest as _, Multipart, Request, State, multipart::Field},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use panel::{backup, fleet::chain, secret::SecretString, store::FieldError};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    app::App,
    fields::Fields,
    folder::Folder,
    format,
    frame::{Frame, go, page},
    guard::Peer,
    pages::form::FormView,
    problem::Problem,
    restore::{self, Before, Staged},
};

/// The longest file that is taken: whoever has the code is to fill no large disk either.
pub(crate) const MOST_BYTES: usize = 4_000_000_000;
/// The longest code or pass phrase.
const MOST_TEXT_BYTES: usize = 4096;
/// What comes, until it is read; its name is gone while it is.
const FILE: &str = "restore.age";

#[derive(Debug, Template)]
#[template(path = "restore.html")]
struct Restore {
    frame: Frame,
    form: FormView,
}

#[derive(Debug, Template)]
#[template(path = "restored.html")]
struct Restored {
    frame: Frame,
    staged: Staged,
}

/// Why the form comes back.
#[derive(Debug)]
struct Refused(StatusCode, FieldError);

impl Refused {
    fn field(name: &str, message: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, FieldError::new(name, message))
    }

    fn cut_off(_: axum::extract::multipart::MultipartError) -> Self {
        let most = format::size(&(MOST_BYTES as u64));
        Self::field(
            "file",
            format!("it did not come whole, or is longer than {most}: send it once more"),
        )
    }

    /// What the panel itself could not do.
    fn disk(error: &io::Error) -> Self {
        tracing::error!(%error, "a backup that came can't be kept");
        Self::field("file", format!("the panel can't keep it: {error}"))
    }
}

/// The form.
///
/// # Errors
/// The store failed.
pub async fn show(State(app): State<App>, frame: Frame) -> Result<Response, Problem> {
    if !app.is_new().await? {
        return Ok(go("/"));
    }
    page(StatusCode::OK, &Restore { frame, form: FormView::default() })
}

/// Takes a backup, and ends the process once it is decided that the next one begins with it.
///
/// # Errors
/// The store failed.
pub async fn enter(
    State(app): State<App>,
    frame: Frame,
    peer: Peer,
    request: Request,
) -> Result<Response, Problem> {
    if !app.is_new().await? {
        return Ok(go("/sign-in"));
    }
    let sent = Multipart::from_request(request, &()).await;
    let mut parts = sent.map_err(|_| Problem::Unreadable("it is no form with a file"))?;
    let mut shown = Fields::default();
    match taken(&app, peer, &mut parts, &mut shown).await {
        Ok(staged) => {
            let mut response = page(StatusCode::OK, &Restored { frame, staged })?;
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            Ok(response)
        }
        Err(Refused(status, fault)) => {
            // Browsers show an answer only once all was sent.
            while let Ok(Some(_)) = parts.next_field().await {}
            let form = FormView::faulty(shown, vec![fault]);
            page(status, &Restore { frame, form })
        }
    }
}

async fn taken(
    app: &App,
    peer: Peer,
    parts: &mut Multipart,
    shown: &mut Fields,
) -> Result<Staged, Refused> {
    let mut pass_phrase = String::new();
    while let Some(part) = parts.next_field().await.map_err(Refused::cut_off)? {
        match part.name().unwrap_or_default() {
            "code" => shown.put("code", text("code", part).await?.trim()),
            "pass_phrase" => pass_phrase = text("pass_phrase", part).await?,
            "file" => {
                if pass_phrase.is_empty() {
                    return Err(Refused::field("pass_phrase", "fill this in"));
                }
                admitted(app, peer, shown.get("code"))?;
                let busy = || {
                    Refused::field(
                        "file",
                        "somebody makes the first account or restores a backup at this moment",
                    )
                };
                let turn = app.first_turn().ok_or_else(busy)?;
                if !matches!(app.is_new().await, Ok(true)) {
                    let why = "somebody made the first account meanwhile";
                    return Err(Refused(StatusCode::CONFLICT, FieldError::new("file", why)));
                }
                return staged(app, turn, part, pass_phrase.into()).await;
            }
            _ => {}
        }
    }
    Err(Refused::field("file", "choose the file"))
}

/// Before the file comes: a stranger fills no disk.
fn admitted(app: &App, peer: Peer, code: &str) -> Result<(), Refused> {
    match app.is_first_start_code(code) {
        Ok(true) => Ok(()),
        Ok(false) => {
            tracing::warn!(from = %peer.0, "a wrong code at the first start");
            Err(Refused::field("code", "this is not the code that the panel shows"))
        }
        Err(wait) => {
            Err(Refused(StatusCode::TOO_MANY_REQUESTS, FieldError::new("code", wait.to_string())))
        }
    }
}

async fn text(name: &str, mut part: Field<'_>) -> Result<String, Refused> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(Refused::cut_off)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MOST_TEXT_BYTES {
            return Err(Refused::field(name, "this is too long"));
        }
    }
    String::from_utf8(bytes).map_err(|_| Refused::field(name, "this is not text in UTF-8"))
}

async fn staged(
    app: &App,
    turn: OwnedSemaphorePermit,
    part: Field<'_>,
    pass_phrase: SecretString,
) -> Result<Staged, Refused> {
    let shared = app.shared();
    let place = shared.store().path().parent().unwrap_or_else(|| Path::new(".")).to_owned();
    let data = Folder::open(&place).map_err(|error| Refused::field("file", chain(&error)))?;
    let from = kept(&data, part).await?;
    let (hosts, app) = (app.told_hosts().to_vec(), app.clone());
    // It goes on though the browser hangs up: what was decided has to be followed by the end of this process.
    let staging = tokio::task::spawn_blocking(move || {
        let staged =
            restore::stage(&data, from, pass_phrase, &hosts, Before::Discard, &mut |_| {})?;
        tracing::info!(root = staged.root, "a backup is ready: the panel ends, to begin with it");
        // Nobody has another turn: what they do would be lost.
        turn.forget();
        app.end_for_restore();
        Ok(staged)
    });
    let staged = staging.await.map_err(|error| Refused::disk(&io::Error::other(error)))?;
    staged.map_err(|error: restore::Error| {
        tracing::warn!(error = chain(&error), "a backup was not restored");
        let wrong = matches!(error, restore::Error::Backup(backup::Error::WrongPassPhrase));
        Refused::field(if wrong { "pass_phrase" } else { "file" }, for_people(&error))
    })
}

/// What is wrong, with its cause where people can do something about that.
fn for_people(error: &restore::Error) -> String {
    use restore::Error;
    let cause: Option<&dyn std::error::Error> = match error {
        Error::Backup(backup::Error::Take(cause)) => Some(cause),
        Error::Store(cause) => Some(cause),
        Error::File { source, .. } => Some(source),
        Error::Backup(_)
        | Error::Unknown(_)
        | Error::Incomplete(_)
        | Error::Full { .. }
        | Error::Begin(_)
        | Error::Present(_)
        | Error::Folder(_) => None,
    };
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// The file as it comes, on the disk and under no name.
async fn kept(data: &Folder, mut part: Field<'_>) -> Result<File, Refused> {
    let (mut to, from) = unnamed(data).map_err(|error| Refused::disk(&error))?;
    let mut bytes = 0;
    while let Some(chunk) = part.chunk().await.map_err(Refused::cut_off)? {
        bytes += chunk.len();
        let writing = tokio::task::spawn_blocking(move || to.write_all(&chunk).map(|()| to));
        let written = writing.await.map_err(io::Error::other).and_then(|written| written);
        to = written.map_err(|error| Refused::disk(&error))?;
    }
    if bytes == 0 {
        return Err(Refused::field("file", "choose the file"));
    }
    Ok(from)
}

fn unnamed(data: &Folder) -> io::Result<(File, File)> {
    data.remove(FILE).map_err(io::Error::other)?;
    let (to, from) = (data.create(FILE)?, File::open(data.path(FILE))?);
    data.remove(FILE).map_err(io::Error::other)?;
    Ok((to, from))
}
