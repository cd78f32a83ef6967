//! What somebody who is signed in may know of themselves and of where they are, whatever their rank.

use super::{Actor, Error, Panel};
use crate::{
    access::Standings,
    noun::{Id, Network, Noun, Organization, Place, Server, Stored, User},
    store::Health,
};

impl Panel {
    /// Who the actor is: what pages offer them follows from it, and what they may is decided by the operations all the same.
    ///
    /// # Errors
    /// The actor is not known, or may not sign in any more.
    pub fn standings(&self, actor: Actor) -> Result<Standings, Error> {
        self.read(actor, |work| Ok(work.who.clone()))
    }

    /// The actor's own record, which takes an admin to see in a list.
    ///
    /// # Errors
    /// The actor is no user, or came with a token.
    pub fn myself(&self, actor: Actor) -> Result<Stored<User>, Error> {
        let Actor::User(id) = actor else { return Err(Error::NotFound { noun: Noun::User }) };
        self.read(actor, |work| work.tx.get(id)?.ok_or(Error::NotFound { noun: Noun::User }))
    }

    /// The organization that owns a network that the actor may see.
    ///
    /// # Errors
    /// There is no such network that the actor may see.
    pub fn owner(&self, actor: Actor, network: Id<Network>) -> Result<Stored<Organization>, Error> {
        self.read(actor, |work| {
            work.seen(network)?;
            let missing = || Error::NotFound { noun: Noun::Network };
            let owner = work.tx.owner(network)?.ok_or_else(missing)?;
            work.seen(owner)
        })
    }

    /// How the servers are that the actor may see, of one network or of all.
    ///
    /// # Errors
    /// The store failed.
    pub fn health(&self, actor: Actor, network: Option<Id<Network>>) -> Result<Vec<Health>, Error> {
        let mut all =
            self.read(actor, |work| Ok(work.tx.health(&work.scope::<Server>(), network)?))?;
        // What a server shows is kept when it changes; that it is there is known to the link alone.
        let connections = self.board().connections();
        let connections = connections.borrow();
        for health in &mut all {
            let Some(connection) = connections.get(&health.server) else { continue };
            health.seen_ms = health.seen_ms.max(connection.seen_ms);
            health.connection = Some(connection.state);
        }
        Ok(all)
    }

    /// Whether nobody who may do all can sign in yet.
    ///
    /// # Errors
    /// The store failed.
    pub fn is_new(&self) -> Result<bool, Error> {
        self.store.read(|tx| Ok(!tx.has_superadmin_with_password()?))
    }

    /// Makes the first user, who may do all, with their password; nothing when somebody was first.
    ///
    /// # Errors
    /// Fields are wrong.
    pub fn make_first(&self, user: &User, hash: &str) -> Result<Option<Stored<User>>, Error> {
        self.write(Actor::Panel("first start"), |work| {
            if work.tx.has_superadmin_with_password()? {
                return Ok(None);
            }
            let made = work.create(Place::Panel, user)?;
            work.tx.set_password(made.id, hash, work.now_ms)?;
            Ok(Some(made))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        access::Standing,
        fleet::State,
        store::Store,
        testing::{ROOT, rig, value},
    };
    use model::wire::Status;
    use serde_json::json;

    #[test]
    fn anybody_sees_themselves_and_whose_network_they_look_at() {
        let rig = rig();
        let viewer = rig.user("vera", "member", Some("viewer"));
        let who = rig.panel.standings(viewer).unwrap();
        assert_eq!((who.name.as_str(), who.standing), ("vera", Standing::Member));
        assert_eq!(rig.panel.myself(viewer).unwrap().value.full_name.as_str(), "vera");
        assert_eq!(rig.panel.owner(viewer, rig.network).unwrap().id, rig.organization);
        let stranger = rig.user("nemo", "member", None);
        let refused = rig.panel.owner(stranger, rig.network);
        assert!(matches!(refused, Err(Error::NotFound { noun: Noun::Network })), "{refused:?}");
        assert!(matches!(rig.panel.myself(ROOT), Err(Error::NotFound { .. })));
    }

    #[test]
    fn the_health_of_a_server_is_what_it_showed_last_and_for_those_who_may_see_it() {
        let rig = rig();
        let viewer = rig.user("vera", "member", Some("viewer"));
        let health = |actor, network| rig.panel.health(actor, network).unwrap();
        let before = health(viewer, None);
        assert_eq!((before[0].name.as_str(), before[0].seen_ms), ("agent-1", None));
        rig.panel.publish().unwrap();
        let mut status = Status { generation: 1, ..Status::default() };
        status.failures.insert("pool tank".into(), "no disk".into());
        let initiators = ["a", "b"].map(|name| format!("iqn.2026-01.x:{name}").parse().unwrap());
        status.sessions.insert("iqn.2026-01.x:t".parse().unwrap(), initiators.into());
        rig.panel.observe(rig.server.id, &status).unwrap();
        let after = &health(viewer, Some(rig.network))[0];
        assert_eq!((after.generation, after.applied), (1, 0));
        assert_eq!((after.failures, after.waiting, after.sessions), (1, 0, 2));
        assert!(after.seen_ms.is_some() && after.connection.is_none());
        rig.panel.board().note(rig.server.id, |connection| connection.seen_ms = Some(u64::MAX));
        let again = &health(viewer, Some(rig.network))[0];
        assert_eq!(again.seen_ms, Some(u64::MAX), "it answered since, and showed nothing new");
        assert_eq!(again.connection, Some(State::Connecting));
        assert_eq!(health(viewer, Some(Id::new(99))), []);
        assert_eq!(health(rig.user("nemo", "member", None), None), []);
    }

    #[test]
    fn a_panel_is_new_until_it_has_somebody_who_may_do_all_and_can_sign_in() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("panel.db")).unwrap();
        let panel = Panel::new(store, Arc::new(|| 1));
        let user = |name| -> User {
            value(json!({ "name": name, "full_name": "Ada", "standing": "superadmin" }))
        };
        panel.create::<User>(ROOT, Place::Panel, user("half")).unwrap();
        assert!(panel.is_new().unwrap(), "a user without a password can't sign in");
        let made = panel.make_first(&user("ada"), "hash").unwrap().unwrap();
        assert!(!panel.is_new().unwrap());
        let (_, credentials) = panel.credentials(&made.value.name).unwrap().unwrap();
        assert_eq!(credentials.password_hash.as_deref(), Some("hash"));
        assert_eq!(panel.make_first(&user("eve"), "hash").unwrap(), None);
    }
}
