//! Channels of notices: which there are, what they told, and trying them.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post, put},
};
use panel::{
    notices::{Channel, KeptChannel, Queued},
    noun::{Id, Organization},
    operations::{ChannelSecret, Panel},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Line,
    caller::Caller,
    describe::Operation,
    receive::{Body, IfMatch, Numbers},
    records::tagged,
    refusal::Refusal,
};
use crate::{app::App, notices};

/// A channel as it is kept.
#[derive(Debug, Serialize, JsonSchema)]
struct Shown {
    id: i64,
    version: u64,
    organization: Id<Organization>,
    value: Channel,
    /// Whether it has a password, or a key for its signatures.
    has_secret: bool,
    /// How many notices were given up.
    dropped: u64,
}

impl From<KeptChannel> for Shown {
    fn from(kept: KeptChannel) -> Self {
        let KeptChannel { id, version, organization, value, sealed, dropped } = kept;
        Self { id, version, organization, value, has_secret: sealed.is_some(), dropped }
    }
}

/// A channel as somebody sets it.
#[derive(Deserialize, JsonSchema)]
struct Sent {
    #[serde(flatten)]
    value: Channel,
    /// The password of the mail server, or the key of the signatures: absent leaves it as it is, null removes it.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>")]
    secret: Option<Option<String>>,
}

/// Tells what is null from what is absent.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Sent {
    fn parts(self) -> (Channel, ChannelSecret) {
        let secret = match self.secret {
            None => ChannelSecret::Keep,
            Some(None) => ChannelSecret::Remove,
            Some(Some(secret)) => ChannelSecret::Set(secret.into()),
        };
        (self.value, secret)
    }
}

/// What came of trying a channel.
#[derive(Debug, Serialize, JsonSchema)]
struct Tried {
    /// Whether the other side took it.
    delivered: bool,
    /// Why not.
    error: Option<String>,
}

/// The routes.
pub(super) fn lines() -> Vec<Line> {
    let operation = |id, summary| Operation::new("channel", id, summary);
    vec![
        Line::get(
            "/channels",
            get(list),
            operation("listChannels", "The channels that the caller may see, by name")
                .answers::<Vec<Shown>>(200, "The channels, without their secrets."),
        ),
        Line::post(
            "/organizations/{organization}/channels",
            post(create),
            operation("makeChannel", "Makes a channel of an organization")
                .takes::<Sent>()
                .answers::<Shown>(201, "It was made.")
                .with("ETag", "Its version.")
                .with("Location", "Where it is.")
                .refuses([403]),
        ),
        Line::get(
            "/channels/{id}",
            get(show),
            operation("getChannel", "One channel")
                .answers::<Shown>(200, "The channel.")
                .with("ETag", "Its version."),
        ),
        Line::get(
            "/channels/{id}/notices",
            get(told),
            operation("noticesOfChannel", "What a channel told and has to tell, the newest first")
                .answers::<Vec<Queued>>(200, "The notices."),
        ),
        Line::put(
            "/channels/{id}",
            put(change),
            operation("changeChannel", "Gives a channel a new value")
                .takes::<Sent>()
                .versioned()
                .answers::<Shown>(200, "The channel.")
                .with("ETag", "Its version.")
                .refuses([403]),
        ),
        Line::delete(
            "/channels/{id}",
            delete(remove),
            operation("deleteChannel", "Deletes a channel with what waits in it")
                .versioned()
                .done("It is gone.")
                .refuses([403]),
        ),
        Line::post(
            "/channels/{id}/test",
            post(test),
            operation("testChannel", "Sends a notice that only tries the channel")
                .answers::<Tried>(200, "What really came of it.")
                .refuses([403]),
        ),
    ]
}

async fn one(app: &App, caller: Caller, id: i64) -> Result<KeptChannel, Refusal> {
    Ok(app.ask(move |panel| panel.channel(caller.actor, id)).await?.0)
}

fn answer(status: StatusCode, kept: KeptChannel) -> Response {
    (status, tagged(kept.version), Json(Shown::from(kept))).into_response()
}

async fn list(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
) -> Result<Json<Vec<Shown>>, Refusal> {
    let found = app.ask(move |panel| panel.channels(actor)).await?;
    Ok(Json(found.into_iter().map(Shown::from).collect()))
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    Numbers([organization]): Numbers<1>,
    Body(sent): Body<Sent>,
) -> Result<Response, Refusal> {
    let (actor, shared, (value, secret)) = (caller.actor, app.clone(), sent.parts());
    let of = Id::<Organization>::new(organization);
    let create =
        move |panel: &Panel| panel.create_channel(actor, of, &value, &secret, shared.box_key());
    let id = app.change(create).await?;
    let location = [(header::LOCATION, format!("{}/channels/{id}", super::PREFIX))];
    let made = one(&app, caller, id).await?;
    Ok((location, answer(StatusCode::CREATED, made)).into_response())
}

async fn show(
    State(app): State<App>,
    caller: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Response, Refusal> {
    Ok(answer(StatusCode::OK, one(&app, caller, id).await?))
}

async fn told(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Json<Vec<Queued>>, Refusal> {
    Ok(Json(app.ask(move |panel| panel.channel(actor, id)).await?.1))
}

async fn change(
    State(app): State<App>,
    caller: Caller,
    Numbers([id]): Numbers<1>,
    IfMatch(version): IfMatch,
    Body(sent): Body<Sent>,
) -> Result<Response, Refusal> {
    let (actor, shared, (value, secret)) = (caller.actor, app.clone(), sent.parts());
    let change = move |panel: &Panel| {
        panel.change_channel(actor, id, version, &value, (&secret, shared.box_key()))
    };
    app.change(change).await?;
    Ok(answer(StatusCode::OK, one(&app, caller, id).await?))
}

async fn remove(
    State(app): State<App>,
    Caller { actor, .. }: Caller,
    Numbers([id]): Numbers<1>,
    IfMatch(version): IfMatch,
) -> Result<StatusCode, Refusal> {
    app.change(move |panel| panel.delete_channel(actor, id, version)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn test(
    State(app): State<App>,
    caller: Caller,
    Numbers([id]): Numbers<1>,
) -> Result<Json<Tried>, Refusal> {
    let channel = one(&app, caller, id).await?;
    let error = notices::send_now(&app, &notices::trial(channel)).await.err();
    Ok(Json(Tried { delivered: error.is_none(), error }))
}
