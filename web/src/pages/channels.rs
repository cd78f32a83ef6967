//! Channels of notices: which there are, one of them with what was sent through it, and trying it.

use askama::Template;
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use panel::{
    notices::{Channel, KeptChannel, Mail, Queued, Way},
    noun::{Id, Organization},
    operations::{Actor, ChannelSecret, Error, Panel},
    store::{FieldError, ListQuery},
};

use super::form::FormView;
use crate::{
    app::App,
    fields::{Fields, Reader},
    frame::{Frame, Seat, go, page},
    notices,
    problem::Problem,
};

#[derive(Debug, Template)]
#[template(path = "channels.html")]
struct Channels {
    frame: Frame,
    channels: Vec<(KeptChannel, String)>,
}

impl Channels {
    fn goes(&self, channel: &KeptChannel) -> String {
        match &channel.value.way {
            Way::Mail(mail) => mail.to.join(", "),
            Way::Hook { url } => url.clone(),
        }
    }
}

/// The organizations that the actor may see, by number and name.
fn organizations(panel: &Panel, actor: Actor) -> Result<Vec<(i64, String)>, Error> {
    let query = ListQuery { limit: Some(200), ..ListQuery::default() };
    let all = panel.list::<Organization>(actor, &query)?.rows;
    Ok(all.into_iter().map(|row| (row.id.number(), row.value.name.to_string())).collect())
}

fn only_admins(frame: &Frame) -> Result<(), Problem> {
    if frame.people() {
        Ok(())
    } else {
        Err(Problem::Forbidden("you may not see channels of notices".to_owned()))
    }
}

/// The channels.
///
/// # Errors
/// The actor looks after no organization.
pub async fn list(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    only_admins(&frame)?;
    let actor = seat.actor;
    let found = app.ask(move |panel| Ok((panel.channels(actor)?, organizations(panel, actor)?)));
    let (channels, organizations) = found.await?;
    let named = |channel: KeptChannel| {
        let of = channel.organization.number();
        let name = organizations.iter().find(|(id, _)| *id == of);
        (channel, name.map(|(_, name)| name.clone()).unwrap_or_default())
    };
    let channels = channels.into_iter().map(named).collect();
    page(StatusCode::OK, &Channels { frame, channels })
}

#[derive(Debug, Template)]
#[template(path = "channel.html")]
struct ChannelPage {
    frame: Frame,
    form: FormView,
    organizations: Vec<(i64, String)>,
    channel: Option<KeptChannel>,
    notices: Vec<Queued>,
    /// What came of trying it.
    tried: Option<Result<(), String>>,
}

/// The form as a channel has it.
fn fields(value: &Channel) -> Fields {
    let mut fields = Fields::default();
    fields.put("name", &value.name);
    fields.put("least", value.least.word());
    fields.tick("private", value.private);
    match &value.way {
        Way::Mail(Mail { host, port, security, user, from, to }) => {
            fields.put("way", "mail");
            fields.put("host", host);
            fields.put("port", port);
            fields.put("security", crate::shapes::word(security));
            fields.put_some("user", user.as_ref());
            fields.put("from", from);
            fields.put("to", to.join("\n"));
        }
        Way::Hook { url } => {
            fields.put("way", "hook");
            fields.put("url", url);
        }
    }
    fields
}

fn read(fields: &Fields) -> Result<Channel, Vec<FieldError>> {
    let mut form = Reader::new(fields);
    let (name, least, private) =
        (form.required("name"), form.word("least"), form.ticked("private"));
    let way = match fields.get("way") {
        "mail" => {
            let (host, port) = (form.required("host"), form.required("port"));
            let (security, user) = (form.word("security"), form.optional("user"));
            let (from, to) = (form.required("from"), form.list("to"));
            (|| {
                let (host, port, security, user) = (host?, port?, security?, user?);
                Some(Way::Mail(Mail { host, port, security, user, from: from?, to: to? }))
            })()
        }
        "hook" => form.required("url").map(|url| Way::Hook { url }),
        _ => form.fault("way", "choose one"),
    };
    let read = (|| Some(Channel { name: name?, least: least?, private, way: way? }))();
    form.finish(read)
}

fn secret(fields: &Fields) -> ChannelSecret {
    if fields.has("no_secret") {
        ChannelSecret::Remove
    } else if fields.raw("secret").is_empty() {
        ChannelSecret::Keep
    } else {
        ChannelSecret::Set(fields.raw("secret").into())
    }
}

/// What a form shows that was not taken: all but the secret.
fn without_secret(fields: &Fields) -> Fields {
    let kept = fields.names().filter(|name| *name != "secret");
    Fields::new(kept.map(|name| (name.to_owned(), fields.get(name).to_owned())).collect())
}

async fn shown(
    app: &App,
    frame: Frame,
    actor: Actor,
    id: Option<i64>,
    form: Option<(StatusCode, FormView)>,
    tried: Option<Result<(), String>>,
) -> Result<Response, Problem> {
    only_admins(&frame)?;
    let found = app.ask(move |panel| {
        let organizations = organizations(panel, actor)?;
        Ok((organizations, id.map(|id| panel.channel(actor, id)).transpose()?))
    });
    let (organizations, found) = found.await?;
    let (channel, notices) = found.map_or((None, Vec::new()), |(one, all)| (Some(one), all));
    let (status, mut form) = form.unwrap_or_else(|| {
        let mut view = FormView::default();
        match &channel {
            Some(channel) => view.fields = fields(&channel.value),
            None => {
                for (name, value) in [
                    ("way", "mail"),
                    ("least", "warning"),
                    ("port", "587"),
                    ("security", "starttls"),
                ] {
                    view.fields.put(name, value);
                }
            }
        }
        (StatusCode::OK, view)
    });
    form.version = form.version.or(channel.as_ref().map(|channel| channel.version));
    let whole = ChannelPage { frame, form, organizations, channel, notices, tried };
    page(status, &whole)
}

/// What becomes of a change: another page, or the form with what is wrong.
async fn changed(
    app: &App,
    frame: Frame,
    seat: Seat,
    id: Option<i64>,
    fields: Fields,
    done: Result<i64, Problem>,
) -> Result<Response, Problem> {
    let (status, faults) = match done {
        Ok(id) => return Ok(go(format!("/channels/{id}"))),
        Err(Problem::Invalid(faults)) => (StatusCode::UNPROCESSABLE_ENTITY, faults),
        Err(Problem::Conflict { .. }) => {
            let message = "somebody else changed it meanwhile: go back and begin anew";
            (StatusCode::CONFLICT, vec![FieldError::new("name", message)])
        }
        Err(problem) => return Err(problem),
    };
    let version = fields.get("version").parse().ok();
    let form = FormView { version, ..FormView::faulty(without_secret(&fields), faults) };
    shown(app, frame, seat.actor, id, Some((status, form)), None).await
}

/// Asks for a new channel.
///
/// # Errors
/// The actor looks after no organization.
pub async fn new(State(app): State<App>, frame: Frame, seat: Seat) -> Result<Response, Problem> {
    shown(&app, frame, seat.actor, None, None, None).await
}

/// Makes a channel.
///
/// # Errors
/// The actor may not.
pub async fn create(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    fields: Fields,
) -> Result<Response, Problem> {
    only_admins(&frame)?;
    let actor = seat.actor;
    let home = frame.home().map(Id::number);
    let organization = fields.get("organization").parse().ok().or(home);
    let done = match (read(&fields), organization) {
        (Ok(value), Some(organization)) => {
            let (shared, secret) = (app.clone(), secret(&fields));
            app.change(move |panel| {
                let of = Id::new(organization);
                panel.create_channel(actor, of, &value, &secret, shared.box_key())
            })
            .await
        }
        (Err(faults), _) => Err(Problem::Invalid(faults)),
        (Ok(_), None) => Err(Problem::field("organization", "choose one")),
    };
    changed(&app, frame, seat, None, fields, done).await
}

/// A channel.
///
/// # Errors
/// There is none that the actor may see.
pub async fn show(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    app.ask(move |panel| panel.channel(seat.actor, id)).await?;
    shown(&app, frame, seat.actor, Some(id), None, None).await
}

/// Changes a channel.
///
/// # Errors
/// There is none that the actor may see.
pub async fn change(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let actor = seat.actor;
    app.ask(move |panel| panel.channel(actor, id)).await?;
    let version = fields.get("version").parse().unwrap_or(0);
    let done = match read(&fields) {
        Ok(value) => {
            let (shared, secret) = (app.clone(), secret(&fields));
            let change = app.change(move |panel| {
                panel.change_channel(actor, id, version, &value, (&secret, shared.box_key()))
            });
            change.await.map(|()| id)
        }
        Err(faults) => Err(Problem::Invalid(faults)),
    };
    changed(&app, frame, seat, Some(id), fields, done).await
}

/// Sends a notice that only tries the channel, and shows what really came of it.
///
/// # Errors
/// There is none that the actor may see.
pub async fn test(
    State(app): State<App>,
    frame: Frame,
    seat: Seat,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let (channel, _) = app.ask(move |panel| panel.channel(seat.actor, id)).await?;
    let tried = notices::send_now(&app, &notices::trial(channel)).await;
    shown(&app, frame, seat.actor, Some(id), None, Some(tried)).await
}

/// Deletes a channel with what waits in it.
///
/// # Errors
/// There is none that the actor may see.
pub async fn delete(
    State(app): State<App>,
    seat: Seat,
    Path(id): Path<i64>,
    fields: Fields,
) -> Result<Response, Problem> {
    let (channel, _) = app.ask(move |panel| panel.channel(seat.actor, id)).await?;
    if fields.get("name") != channel.value.name.as_str() {
        return Err(Problem::field("name", "type the name of the channel"));
    }
    app.change(move |panel| panel.delete_channel(seat.actor, id, channel.version)).await?;
    Ok(go("/channels"))
}
