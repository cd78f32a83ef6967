//! What a panel does once with a database that came out of a backup, before it goes on with it: what belongs to the moment of the
//! backup ends, and the audit log says so.

use serde_json::json;
use time::OffsetDateTime;

use super::{Actor, Error, Panel};
use crate::backup::Manifest;

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
        self.write(Actor::Panel("restore"), |work| {
            let sessions = work.tx.end_all_sessions()?;
            work.tx.forget_destroys()?;
            work.tx.mark_all_stale()?;
            work.tx.mark_tables_stale()?;
            work.tx.note_backup(made_ms)?;
            let what = json!({ "restored_from_backup_of": moment(from.made_at_unix),
                "made_by_version": from.panel_version, "sessions_ended": sessions });
            work.note_panel(None, what)
        })
    }
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
