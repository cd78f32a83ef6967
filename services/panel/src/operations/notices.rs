//! Channels of notices, and what is sent through them: an alert that begins, and the same when it ends, once to each channel. What a
//! channel was told stands beside the alerts, in the same transaction, so no restart makes it be told twice or never.

use serde_json::json;

use super::{Actor, Error, Panel, Work, invalid};
use crate::{
    access::{Matter, Verb},
    alerts::{Alert, Cause},
    notices::{Channel, KeptChannel, Notice, Queued, Way},
    noun::{Id, Noun, Organization},
    secret::{BoxKey, ExposeSecret as _, Purpose, SecretSlice, SecretString},
    store::{self, FieldError, Tx},
};

/// The first wait after a failure; each next one is twice as long, up to the longest.
const FIRST_WAIT_MS: u64 = 30_000;
const LONGEST_WAIT_MS: u64 = 3_600_000;
/// A notice that could not be delivered in so long is no news any more.
const GIVE_UP_MS: u64 = 24 * 3_600_000;
/// The most addresses of a mail.
const MOST_ADDRESSES: usize = 20;

/// What a change makes of a channel's secret.
#[derive(Debug, Clone, Default)]
pub enum ChannelSecret {
    /// It stays.
    #[default]
    Keep,
    /// There is none any more.
    Remove,
    /// It is this.
    Set(SecretString),
}

/// A notice that is to be sent now.
#[derive(Debug, Clone)]
pub struct Due {
    /// The notice.
    pub queued: Queued,
    /// The channel.
    pub channel: KeptChannel,
}

fn wait_ms(attempts: u32) -> u64 {
    let doubled = 2_u64.saturating_pow(attempts.saturating_sub(1));
    FIRST_WAIT_MS.saturating_mul(doubled).min(LONGEST_WAIT_MS)
}

/// What a secret of a channel is sealed for.
fn sealed_for(id: i64) -> String {
    format!("channel {id}")
}

/// A channel's secret; absent where it has none.
///
/// # Errors
/// It was sealed under another key file, or is damaged.
pub fn open_channel_secret(
    box_key: &BoxKey,
    channel: &KeptChannel,
) -> Result<Option<SecretSlice<u8>>, crate::secret::Error> {
    let open = |sealed| box_key.open(Purpose::NoticeCredential, &sealed_for(channel.id), sealed);
    channel.sealed.as_deref().map(open).transpose()
}

impl Panel {
    /// The channels that the actor may see, by name.
    ///
    /// # Errors
    /// The actor is not known.
    pub fn channels(&self, actor: Actor) -> Result<Vec<KeptChannel>, Error> {
        self.read(actor, |work| {
            let mut channels = work.tx.channels(&store::Scope::All)?;
            let sees = |of: Id<Organization>| {
                work.who.may_in(Verb::Read, Matter::Channel, of.place_of(), None)
            };
            channels.retain(|channel| sees(channel.organization));
            Ok(channels)
        })
    }

    /// A channel with its notices, the newest first.
    ///
    /// # Errors
    /// There is none that the actor may see.
    pub fn channel(&self, actor: Actor, id: i64) -> Result<(KeptChannel, Vec<Queued>), Error> {
        self.read(actor, |work| {
            let channel = work.channel(id, Verb::Read)?;
            Ok((channel, work.tx.notices_of(id)?))
        })
    }

    /// Makes a channel of an organization; its number.
    ///
    /// # Errors
    /// The actor may not; fields are wrong.
    pub fn create_channel(
        &self,
        actor: Actor,
        organization: Id<Organization>,
        value: &Channel,
        secret: &ChannelSecret,
        box_key: &BoxKey,
    ) -> Result<i64, Error> {
        self.write(actor, |work| {
            let place = organization.place_of();
            work.allow_in(Verb::Create, Matter::Channel, place, Noun::Organization)?;
            work.tx.get(organization)?.ok_or(Error::NotFound { noun: Noun::Organization })?;
            work.check_channel(value, None)?;
            let id = work.tx.insert_channel(organization, value)?;
            work.set_secret(id, secret, box_key)?;
            let what = json!({ "channel": id, "value": value, "changed": "made" });
            work.note_of(organization, what)?;
            Ok(id)
        })
    }

    /// Changes a channel. `version` is the one that the change was made from.
    ///
    /// # Errors
    /// There is none that the actor may see; somebody else changed it meanwhile; fields are wrong.
    pub fn change_channel(
        &self,
        actor: Actor,
        id: i64,
        version: u64,
        value: &Channel,
        secret: (&ChannelSecret, &BoxKey),
    ) -> Result<(), Error> {
        self.write(actor, |work| {
            let before = work.channel_at(id, version, Verb::Change)?;
            work.check_channel(value, Some(&before))?;
            work.tx.update_channel(id, value, work.now_ms)?;
            work.set_secret(id, secret.0, secret.1)?;
            let what = json!({ "channel": id, "before": before.value, "value": value,
                "secret": !matches!(secret.0, ChannelSecret::Keep), "changed": "changed" });
            work.note_of(before.organization, what)
        })
    }

    /// Deletes a channel with all that waits in it. `version` is the one that was looked at.
    ///
    /// # Errors
    /// There is none that the actor may see; somebody else changed it meanwhile.
    pub fn delete_channel(&self, actor: Actor, id: i64, version: u64) -> Result<(), Error> {
        self.write(actor, |work| {
            let before = work.channel_at(id, version, Verb::Delete)?;
            work.tx.delete_channel(id)?;
            let what = json!({ "channel": id, "before": before.value, "changed": "deleted" });
            work.note_of(before.organization, what)
        })
    }

    /// What is to be sent now: the eldest notice of each channel, where its wait is over. What is too old is given up.
    ///
    /// # Errors
    /// The store failed.
    pub fn due_notices(&self) -> Result<Vec<Due>, Error> {
        let now_ms = (self.clock)();
        self.store.write(|tx| {
            tx.give_up_notices(now_ms.saturating_sub(GIVE_UP_MS))?;
            let mut due = Vec::new();
            for queued in tx.due_notices(now_ms)? {
                if let Some(channel) = tx.channel(queued.channel)? {
                    due.push(Due { queued, channel });
                }
            }
            Ok(due)
        })
    }

    /// Notes what came of sending a notice: nothing, or why it was not delivered.
    ///
    /// # Errors
    /// The store failed.
    pub fn note_notice(&self, id: i64, failure: Option<&str>) -> Result<(), Error> {
        let now_ms = (self.clock)();
        self.store.write(|tx| {
            match failure {
                None => tx.notice_sent(id, now_ms)?,
                Some(error) => {
                    let error: String = error.chars().take(500).collect();
                    tx.notice_failed(id, &error, |tried| now_ms.saturating_add(wait_ms(tried)))?;
                }
            }
            Ok(())
        })
    }
}

impl Work<'_> {
    fn channel(self, id: i64, verb: Verb) -> Result<KeptChannel, Error> {
        let missing = Error::NotFound { noun: Noun::Organization };
        let channel = self.tx.channel(id)?.ok_or(missing)?;
        let place = channel.organization.place_of();
        self.allow_in(verb, Matter::Channel, place, Noun::Organization)?;
        Ok(channel)
    }

    /// The channel, if it still has the version that somebody looked at.
    fn channel_at(self, id: i64, version: u64, verb: Verb) -> Result<KeptChannel, Error> {
        let channel = self.channel(id, verb)?;
        if channel.version == version {
            return Ok(channel);
        }
        let current = serde_json::to_value(&channel.value).map_err(store::Error::Json)?;
        Err(Error::Conflict { noun: Noun::Organization, version: channel.version, current })
    }

    fn set_secret(self, id: i64, secret: &ChannelSecret, box_key: &BoxKey) -> Result<(), Error> {
        let purpose = Purpose::NoticeCredential;
        match secret {
            ChannelSecret::Keep => Ok(()),
            ChannelSecret::Remove => Ok(self.tx.set_channel_secret(id, None)?),
            ChannelSecret::Set(secret) => {
                let bytes = secret.expose_secret().as_bytes();
                let sealed = box_key.seal(purpose, &sealed_for(id), bytes);
                Ok(self.tx.set_channel_secret(id, Some(&sealed))?)
            }
        }
    }

    fn check_channel(self, value: &Channel, before: Option<&KeptChannel>) -> Result<(), Error> {
        let mut faults = Vec::new();
        let was_private = before.is_some_and(|before| before.value.private);
        if value.private && !was_private && !self.who.is_superadmin() {
            let message = "only a superadmin may let a channel reach private networks";
            faults.push(FieldError::new("private", message));
        }
        match &value.way {
            Way::Mail(mail) => {
                if mail.host.trim().is_empty() || mail.host.contains(char::is_whitespace) {
                    faults.push(FieldError::new("host", "name the mail server"));
                }
                if mail.port == 0 {
                    faults.push(FieldError::new("port", "give its port"));
                }
                if mail.to.is_empty() || mail.to.len() > MOST_ADDRESSES {
                    let message = format!("give 1 to {MOST_ADDRESSES} mail addresses");
                    faults.push(FieldError::new("to", message));
                }
                let from = std::iter::once(("from", &mail.from));
                for (field, address) in from.chain(mail.to.iter().map(|to| ("to", to))) {
                    if address.parse::<lettre::Address>().is_err() {
                        let message = format!("{address:?} is no mail address");
                        faults.push(FieldError::new(field, message));
                    }
                }
            }
            Way::Hook { url } => {
                let uri = url.parse::<hyper::Uri>().ok();
                let web = |uri: &hyper::Uri| {
                    matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some()
                };
                if !uri.as_ref().is_some_and(web) {
                    faults
                        .push(FieldError::new("url", "give an address that begins with https://"));
                }
                if uri.is_some_and(|uri| uri.authority().is_some_and(|a| a.as_str().contains('@')))
                {
                    let message = "a password in an address is shown to everybody: use the secret";
                    faults.push(FieldError::new("url", message));
                }
            }
        }
        invalid(faults)
    }
}

impl Id<Organization> {
    /// Where the matters of this organization live.
    pub(crate) fn place_of(self) -> crate::noun::Place {
        crate::noun::Place::Organization(self)
    }
}

/// Puts in the queue of each channel what it does not know yet: alerts that stand, and those that it was told of and that don't
/// stand any more. An alert that got worse is told once, when it is bad enough; one that got better is told when it is over.
pub(super) fn tell(tx: Tx<'_>, standing: &[Alert], now_ms: u64) -> Result<bool, Error> {
    let channels = tx.channels(&store::Scope::All)?;
    if channels.is_empty() {
        return Ok(false);
    }
    let notices_of = tx.settings()?.1.notices_of;
    let mut news = false;
    for channel in channels {
        let mut told = tx.told(channel.id)?;
        let own = |alert: &&Alert| {
            alert.organization.or(notices_of) == Some(channel.organization)
                // What can't be told can't be told.
                && !matches!(alert.cause, Cause::NoticesFail { .. })
        };
        let mut began = Vec::new();
        for alert in standing.iter().filter(own) {
            let known = told.remove(&alert.key).is_some();
            if !known && alert.severity >= channel.value.least {
                began.push(alert.clone());
            }
        }
        let ended: Vec<Alert> = told.into_values().collect();
        if !began.is_empty() || !ended.is_empty() {
            tx.enqueue(channel.id, &Notice { began, ended, trial: false }, now_ms)?;
            news = true;
        }
    }
    Ok(news)
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
