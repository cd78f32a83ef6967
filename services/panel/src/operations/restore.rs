//! What a panel does once with a database that came out of a backup, before it goes on with it: what belongs to the moment of the
//! backup ends, and the audit log says so. What it gave out since, it recognises.

use std::time::UNIX_EPOCH;

use serde_json::json;
use time::OffsetDateTime;

use super::{Actor, Error, Panel, Work};
use crate::{
    backup::Manifest,
    ca::{Certificate, Kind},
    noun::{Id, Server, Tunnel},
};

const ACTOR: Actor = Actor::Panel("restore");

/// Whose certificate it is, by the name that it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    Server(Id<Server>),
    Tunnel(Id<Tunnel>),
}

impl Panel {
    /// Makes the state of a backup that of a panel that goes on. Sessions end: whoever was signed in then may be anybody by now.
    /// What servers were to destroy is forgotten: since then somebody may have made something new of the same name, and a server
    /// keeps what no document speaks of. All else carries on; documents rise above the numbers that servers know when these show
    /// themselves ([`Panel::observe`]).
    ///
    /// # Errors
    /// The store failed.
    pub fn note_restore(&self, from: &Manifest) -> Result<(), Error> {
        let made_ms = from.made_at_unix.saturating_mul(1000);
        self.write(ACTOR, |work| {
            let sessions = work.tx.end_all_sessions()?;
            work.tx.forget_destroys()?;
            work.tx.mark_all_stale()?;
            work.tx.mark_tables_stale()?;
            work.tx.note_backup(made_ms)?;
            work.tx.note_restored(made_ms, work.now_ms)?;
            let what = json!({ "restored_from_backup_of": moment(from.made_at_unix),
                "made_by_version": from.panel_version, "sessions_ended": sessions });
            work.note_panel(None, what)
        })
    }

    /// Puts a certificate on the books that one of the panel's authorities signed for this server or tunnel, where the panel gave
    /// it after the backup that it was restored from, and so forgot it: without this, whoever was renewed meanwhile would be
    /// shut out. Whether it did.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) fn recognise(&self, whose: Whose, der: &[u8]) -> Result<bool, Error> {
        let Ok(certificate) = Certificate::parse(der.to_vec()) else { return Ok(false) };
        let kind = match whose {
            Whose::Server(_) => Kind::Agent,
            Whose::Tunnel(_) => Kind::Tunnel,
        };
        // When boxes believe that it began says nothing; it ends a lifetime after it was made.
        let end = certificate.validity().not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
        let made = end.saturating_sub(kind.lifetime()).as_millis();
        let made_ms = u64::try_from(made).unwrap_or(u64::MAX);
        if !self.read(ACTOR, |work| forgotten(work, &certificate, made_ms))? {
            return Ok(false);
        }
        self.write(ACTOR, |work| {
            if !forgotten(work, &certificate, made_ms)? {
                return Ok(false);
            }
            let serial = certificate.serial().to_string();
            let what =
                json!({ "certificate": serial, "kind": kind.word(), "changed": "recognised" });
            match whose {
                Whose::Server(server) => {
                    work.tx.keep_certificate(kind, Some(server), &certificate, made_ms)?;
                    work.note_of(server, what)?;
                }
                Whose::Tunnel(tunnel) => {
                    work.tx.keep_tunnel_certificate(tunnel, &certificate, made_ms)?;
                    work.note_of(tunnel, what)?;
                }
            }
            Ok(true)
        })
    }
}

/// Whether it was made in the time that the panel knows nothing of, and is not on its books.
fn forgotten(work: Work<'_>, certificate: &Certificate, made_ms: u64) -> Result<bool, Error> {
    let past = work.tx.lost_past()?;
    let lost = past.is_some_and(|(from, until)| (from..=until).contains(&made_ms));
    Ok(lost && work.tx.booked(certificate.serial())?.is_none())
}

/// As people read it, in the log.
fn moment(unix: u64) -> String {
    let at = i64::try_from(unix).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}

#[cfg(test)]
mod tests {
    use model::name::Mark;

    use super::*;
    use crate::{
        store::{Digest, EntryQuery},
        testing::{ROOT, rig},
    };

    fn manifest() -> Manifest {
        Manifest::new("0.0.9", 1_795_000_000, Vec::new())
    }

    #[test]
    fn nobody_stays_signed_in_and_the_log_says_from_when_the_panel_is() {
        let rig = rig();
        let Actor::User(user) = rig.user("root", "superadmin", None) else { panic!("no user") };
        let digest = Digest([7; 32]);
        rig.panel.begin_session(user, digest, 60_000, "127.0.0.1", "test").unwrap();
        assert!(rig.panel.session(digest).unwrap().is_some());
        rig.panel.note_restore(&manifest()).unwrap();
        assert_eq!(rig.panel.session(digest).unwrap(), None);
        let made_ms = rig.panel.settings(ROOT).unwrap().2.made_ms;
        assert_eq!(made_ms, Some(1_795_000_000_000));
        let logged = rig.panel.audit(ROOT, &EntryQuery::default()).unwrap().rows.remove(0);
        let after = logged.after.unwrap();
        let expected = json!({ "restored_from_backup_of": "2026-11-18 11:06 UTC",
            "made_by_version": "0.0.9", "sessions_ended": 1 });
        assert_eq!(after, expected);
    }

    #[test]
    fn what_was_to_be_destroyed_when_the_backup_was_made_is_destroyed_no_more() {
        let rig = rig();
        let mark: Mark = "vdisk:scratch".parse().unwrap();
        rig.panel.destroy(ROOT, rig.network, &mark).unwrap();
        rig.published();
        let told = || rig.panel.document(ROOT, rig.server.id).unwrap().unwrap().body;
        assert!(told().contains("vdisk:scratch"), "{}", told());
        let before = rig.panel.document(ROOT, rig.server.id).unwrap().unwrap().generation;
        rig.panel.note_restore(&manifest()).unwrap();
        rig.published();
        assert!(told().contains("\"destroy\":[]"), "{}", told());
        let after = rig.panel.document(ROOT, rig.server.id).unwrap().unwrap().generation;
        assert_eq!(after, before + 1);
    }
}
