//! Sends what waits in the channels of notices: one at a time in each channel, and no channel waits for another.

use std::{collections::BTreeSet, time::Duration};

use panel::{
    alerts::Alert,
    notices::{Notice, Reach, Words, send},
    operations::{Due, Panel, open_channel_secret},
};
use tokio::task::JoinSet;

use crate::{app::App, format::ms, lookout::done, pages::alerts::solution};

/// How often it is looked whether something waits.
const EVERY: Duration = Duration::from_secs(5);

/// Sends for ever.
pub async fn deliver(app: App) {
    let mut at_work = BTreeSet::new();
    let mut tasks = JoinSet::new();
    let mut round = tokio::time::interval(EVERY);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = round.tick() => {}
            Some(ended) = tasks.join_next() => {
                if let Ok(channel) = ended {
                    at_work.remove(&channel);
                } else {
                    // Which one died is not known: none of them is at work for longer than a minute or two.
                    at_work.clear();
                }
            }
        }
        for due in done(&app, Panel::due_notices).await.unwrap_or_default() {
            if at_work.insert(due.channel.id) {
                tasks.spawn(deliver_one(app.clone(), due));
            }
        }
    }
}

/// Sends one, and notes what came of it; its channel.
async fn deliver_one(app: App, due: Due) -> i64 {
    let (channel, id) = (due.channel.id, due.queued.id);
    let failure = send_now(&app, &due).await.err();
    match &failure {
        None => tracing::info!(channel, notice = id, "a notice was delivered"),
        Some(error) => tracing::warn!(channel, notice = id, error, "a notice was not delivered"),
    }
    done(&app, move |panel| panel.note_notice(id, failure.as_deref())).await;
    app.changed();
    channel
}

/// Sends a notice; why it was not delivered, with its causes.
///
/// # Errors
/// It was not delivered.
pub async fn send_now(app: &App, due: &Due) -> Result<(), String> {
    let Due { queued, channel } = due;
    let base = done(app, Panel::settings_in_force).await;
    let base = base.and_then(|settings| settings.public_names.into_iter().next());
    let base = base.map(|name| format!("https://{name}")).unwrap_or_default();
    let link = |alert: &Alert| format!("{base}{}", solution(alert));
    let time_s = ms(std::time::SystemTime::now()) / 1000;
    let words = Words::new(queued.id, &queued.notice, time_s, link);
    let sent = async {
        let secret =
            open_channel_secret(app.box_key(), channel).map_err(panel::notices::Error::Secret)?;
        send(&channel.value, secret, &words, Reach::new(channel.value.private)).await
    };
    sent.await.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

/// A notice that tries a channel.
pub fn trial(channel: panel::notices::KeptChannel) -> Due {
    let queued = panel::notices::Queued {
        id: 0,
        channel: channel.id,
        notice: Notice { trial: true, ..Notice::default() },
        made_ms: 0,
        due_ms: 0,
        attempts: 0,
        error: None,
        sent_ms: None,
    };
    Due { queued, channel }
}
