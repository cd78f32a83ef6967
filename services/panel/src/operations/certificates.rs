//! Certificates that were given out: seen, and taken back.

use std::{
    collections::BTreeMap,
    sync::{Arc, MutexGuard, PoisonError},
};

use serde_json::json;

use super::{Actor, Error, Panel, Work};
use crate::{
    access::Verb,
    ca::{Certificate, Kind, Reason, RevocationList, Revoked, Role, Serial},
    noun::{Id, Noun, Place, Server, User},
    store::{Booked, BookedQuery, Page},
};

/// The authorities above the certificate that servers and tunnels know the panel by. The issuing one comes first, for an agent that
/// was made before the root had a list reads the first alone.
const PANELS: [Role; 2] = [Role::Issuing, Role::Root];

impl Panel {
    /// Puts a certificate of the panel's own on the books, where it may be there already.
    ///
    /// # Errors
    /// The store failed.
    pub fn book(&self, kind: Kind, certificate: &Certificate) -> Result<(), Error> {
        let serial = certificate.serial();
        if self.store.read(|tx| tx.booked(serial))?.is_some() {
            return Ok(());
        }
        self.store.write(|tx| tx.keep_certificate(kind, None, certificate, self.now_ms()))?;
        self.announce();
        Ok(())
    }

    /// Whether a certificate was taken back.
    ///
    /// # Errors
    /// The store failed.
    pub fn is_revoked(&self, serial: Serial) -> Result<bool, Error> {
        let booked = self.store.read(|tx| tx.booked(serial))?;
        Ok(booked.is_some_and(|booked| booked.revoked_ms.is_some()))
    }

    /// What a server was given, the newest first.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn certificates(&self, actor: Actor, server: Id<Server>) -> Result<Vec<Booked>, Error> {
        self.read(actor, |work| {
            work.seen(server)?;
            Ok(work.tx.certificates_of(server)?)
        })
    }

    /// A page of all that was given out, the newest first: of servers and people that the actor may see; what is the panel's own,
    /// and whose server is gone, for superadmins.
    ///
    /// # Errors
    /// The cursor is unknown.
    pub fn issued(&self, actor: Actor, query: &BookedQuery) -> Result<Page<Booked>, Error> {
        self.read(actor, |work| {
            let scopes = (&work.scope::<Server>(), &work.scope::<User>());
            Ok(work.tx.issued(scopes, query, work.now_ms)?)
        })
    }

    /// One that was given out.
    ///
    /// # Errors
    /// There is none that the actor may see.
    pub fn certificate(&self, actor: Actor, serial: Serial) -> Result<Booked, Error> {
        self.read(actor, |work| work.booked(serial, Verb::Read))
    }

    /// Takes a certificate back, once and for all: the fleet hangs up on a server that shows it, connections that stand included,
    /// and agents hear of it with their next document; a person comes in with it no more. False when that was done before.
    ///
    /// # Errors
    /// There is none that the actor may see, or they may not change its server or person; the panel's own are for superadmins; it
    /// is the last that lets the actor in.
    pub fn revoke(&self, actor: Actor, serial: Serial, reason: Reason) -> Result<bool, Error> {
        self.write(actor, |work| {
            let booked = work.booked(serial, Verb::Change)?;
            if let Some(user) = booked.user {
                return work.revoke_of(user, &booked, reason);
            }
            let revoked = work.tx.revoke(serial, reason, work.now_ms)?;
            if revoked {
                // Whom none is left for may not come in at tunnels either.
                work.tx.mark_tables_stale()?;
                let what = json!({ "certificate": serial.to_string(), "changed": "revoked",
                    "reason": reason.word() });
                work.note_errand(None, booked.server, what)?;
            }
            Ok(revoked)
        })
    }

    /// Takes this list of an authority as its newest. Where servers and tunnels know the panel by that authority, it stands in their
    /// documents from now on.
    ///
    /// # Errors
    /// The store failed.
    pub fn keep_revocation_list(&self, of: Role, list: RevocationList) -> Result<(), Error> {
        self.revocations().insert(of, Arc::new(list));
        if PANELS.contains(&of) {
            self.store.write(|tx| {
                tx.mark_all_stale()?;
                tx.mark_tables_stale()
            })?;
        }
        self.announce();
        Ok(())
    }

    /// The newest list of an authority; absent before there is one. It is nobody's secret.
    pub fn revocation_list(&self, of: Role) -> Option<Arc<RevocationList>> {
        self.revocations().get(&of).cloned()
    }

    /// The lists that servers and tunnels are given, in PEM; absent before there is one.
    pub(crate) fn revocations_pem(&self) -> Option<String> {
        let lists = self.revocations();
        let lists = PANELS.iter().filter_map(|of| lists.get(of));
        Some(lists.map(|list| list.pem()).collect()).filter(|pem: &String| !pem.is_empty())
    }

    fn revocations(&self) -> MutexGuard<'_, BTreeMap<Role, Arc<RevocationList>>> {
        self.revocations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on the list of an authority: of what it signed, all that is revoked and would hold still. The root signed issuing
    /// authorities alone, which are on no books.
    ///
    /// # Errors
    /// The store failed.
    pub fn revoked(&self, authority: Role) -> Result<Vec<Revoked>, Error> {
        let now_ms = self.now_ms();
        match authority {
            Role::Root => Ok(Vec::new()),
            Role::Issuing => self.store.read(|tx| Ok(tx.revoked(false, now_ms)?)),
            Role::Boot => self.store.read(|tx| Ok(tx.revoked(true, now_ms)?)),
        }
    }
}

impl Work<'_> {
    /// A certificate whose server or person the actor may do this to.
    fn booked(self, serial: Serial, verb: Verb) -> Result<Booked, Error> {
        let missing = Error::NotFound { noun: Noun::Server };
        let booked = self.tx.booked(serial)?.ok_or(missing)?;
        match (booked.server, booked.user) {
            (Some(server), _) => drop(self.fetch(server, verb)?),
            (None, Some(user)) if verb == Verb::Read => drop(self.seen(user)?),
            (None, Some(user)) => self.may_answer_for(user)?,
            (None, None) => self.allow(verb, Noun::Server, Place::Panel)?,
        }
        Ok(booked)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        ca::{Algorithm, Authority, Key, Subject},
        store::BookedState,
        testing::{ROOT, Rig, rig},
    };

    /// A certificate of the rig's server, and one of the panel's own.
    fn given(rig: &Rig) -> [Serial; 2] {
        let now = SystemTime::now();
        let root = Authority::root(now).unwrap();
        let issuing = root.issuing(&[], now).unwrap();
        let boot = Authority::boot(now).unwrap();
        let ca = crate::ca::Ca::new(root.certificate().clone(), issuing, boot).unwrap();
        let key = Key::generate(Algorithm::EcdsaP256).unwrap();
        let issue = |subject| ca.issue(&subject, &key.public(), now).unwrap().certificate;
        let agent = issue(Subject::Agent(rig.server.id, "agent-1".parse().unwrap()));
        let own = issue(Subject::Fleet);
        rig.panel
            .store
            .write(|tx| tx.keep_certificate(Kind::Agent, Some(rig.server.id), &agent, 1))
            .unwrap();
        rig.panel.book(Kind::Fleet, &own).unwrap();
        [agent.serial(), own.serial()]
    }

    #[test]
    fn certificates_are_seen_and_taken_back_by_those_who_may() {
        let rig = rig();
        let [agent, own] = given(&rig);
        let seen = |actor| {
            let page = rig.panel.issued(actor, &BookedQuery::default()).unwrap();
            let rows = page.rows.iter().map(|booked| booked.serial);
            assert!(rows.clone().all(|serial| rig.panel.certificate(actor, serial).is_ok()));
            rows.collect::<Vec<_>>()
        };
        let viewer = rig.user("vera", "member", Some("viewer"));
        let admin = rig.user("anna", "member", Some("admin"));
        let keeper = rig.user("olga", "organization-admin", None);
        let nemo = rig.user("nemo", "member", None);
        assert_eq!(seen(ROOT), [own, agent], "the newest first");
        for actor in [viewer, admin, keeper] {
            assert_eq!(seen(actor), [agent]);
        }
        assert_eq!(seen(nemo), []);
        let revoke = |actor, serial| rig.panel.revoke(actor, serial, Reason::KeyCompromise);
        for actor in [viewer, admin, keeper, nemo] {
            let refused = revoke(actor, own);
            assert!(matches!(refused, Err(Error::NotFound { .. } | Error::Forbidden { .. })));
        }
        assert!(matches!(revoke(viewer, agent), Err(Error::Forbidden { .. })));
        assert!(matches!(revoke(nemo, agent), Err(Error::NotFound { .. })));
        assert!(revoke(admin, agent).unwrap() && !revoke(keeper, agent).unwrap());
        assert!(revoke(ROOT, own).unwrap() && rig.panel.is_revoked(own).unwrap());
        assert_eq!(rig.panel.revoked(Role::Issuing).unwrap().len(), 2);
    }

    #[test]
    fn the_list_of_certificates_is_narrowed_and_paged() {
        let rig = rig();
        let [agent, own] = given(&rig);
        let found = |query: BookedQuery| {
            let page = rig.panel.issued(ROOT, &query).unwrap();
            (page.rows.iter().map(|booked| booked.serial).collect::<Vec<_>>(), page.next)
        };
        let all = BookedQuery::default();
        let search = |text: &str| BookedQuery { search: Some(text.to_owned()), ..all.clone() };
        assert_eq!(found(search("AGENT-1")).0, [agent]);
        assert_eq!(found(search(&own.to_string()[..9])).0, [own]);
        assert_eq!(found(BookedQuery { kind: Some(Kind::Fleet), ..all.clone() }).0, [own]);
        let state = |state| found(BookedQuery { state: Some(state), ..all.clone() }).0;
        assert_eq!(state(BookedState::Good), [own, agent]);
        rig.panel.revoke(ROOT, agent, Reason::Removed).unwrap();
        assert_eq!(
            (state(BookedState::Good), state(BookedState::Revoked)),
            (vec![own], vec![agent])
        );
        rig.now.store(u64::MAX >> 2, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(state(BookedState::Ended), [own], "what was taken back stays so");
        let (first, next) = found(BookedQuery { limit: Some(1), ..all.clone() });
        assert_eq!(first, [own]);
        let (second, end) = found(BookedQuery { cursor: next, limit: Some(1), ..all });
        assert_eq!((second, end), (vec![agent], None));
    }
}
