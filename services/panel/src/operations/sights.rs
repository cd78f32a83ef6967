//! What the link to the fleet knows at this moment, for those who may see the servers.

use std::sync::Arc;

use model::wire::Event;
use tokio::sync::watch;

use super::{Actor, Error, Panel};
use crate::{
    fleet::{Board, Connection, Connections},
    noun::{Id, Network, Server},
};

impl Panel {
    /// How the connection to a server stands; absent for one that never joined, and while the link does not run.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn connection(
        &self,
        actor: Actor,
        server: Id<Server>,
    ) -> Result<Option<Connection>, Error> {
        self.read(actor, |work| {
            work.seen(server)?;
            Ok(self.board.connection(server))
        })
    }

    /// How the connections to all servers of a network stand, or of all networks, as far as the actor may see them.
    ///
    /// # Errors
    /// The actor is signed out.
    pub fn connections(
        &self,
        actor: Actor,
        network: Option<Id<Network>>,
    ) -> Result<Connections, Error> {
        let seen =
            self.read(actor, |work| Ok(work.tx.servers_of(&work.scope::<Server>(), network)?))?;
        let connections = self.board.connections();
        let connections = connections.borrow();
        let one = |id| Some((id, connections.get(&id)?.clone()));
        Ok(seen.into_iter().filter_map(one).collect())
    }

    /// What happened on a server last, the newest first: at most so much, and as far as its agent and the panel remember.
    ///
    /// # Errors
    /// There is no such server that the actor may see.
    pub fn happened(
        &self,
        actor: Actor,
        server: Id<Server>,
        most: usize,
    ) -> Result<Vec<Event>, Error> {
        self.read(actor, |work| {
            work.seen(server)?;
            Ok(self.board.last(server, most))
        })
    }

    /// Rises whenever a server shows something else than before, or its connection came or went: for those who show that. It
    /// says nothing of what was changed at the panel.
    pub fn sights(&self) -> watch::Receiver<u64> {
        self.board.sights()
    }

    pub(crate) fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    pub(crate) fn sight(&self) {
        self.board.seen();
    }
}

#[cfg(test)]
mod tests {
    use model::wire::EventKind;

    use super::*;
    use crate::{
        fleet::Happened,
        testing::{ROOT, rig},
    };

    #[test]
    fn connections_and_events_are_for_those_who_may_see_the_server() {
        let rig = rig();
        let (server, board) = (rig.server.id, rig.panel.board());
        let seen = |actor| {
            let all = rig.panel.connections(actor, None).unwrap().len();
            let here = rig.panel.connections(actor, Some(rig.network)).unwrap().len();
            assert_eq!(all, here);
            let one = rig.panel.connection(actor, server);
            let events = rig.panel.happened(actor, server, 9);
            assert_eq!(one.is_ok(), events.is_ok());
            (all, one.ok().flatten().is_some(), events.map_or(0, |events| events.len()))
        };
        let viewer = rig.user("vera", "member", Some("viewer"));
        let nemo = rig.user("nemo", "member", None);
        assert_eq!(seen(viewer), (0, false, 0), "the link does not run");
        board.note(server, |connection| connection.since_ms = 5);
        board.note(Id::new(999), |_| {});
        let kind = EventKind::Applied { generation: 1 };
        board.happened(Happened { server, event: Event { number: 1, time_ms: 1, kind } });
        for actor in [viewer, ROOT] {
            assert_eq!(seen(actor), (1, true, 1));
        }
        assert_eq!(seen(nemo), (0, false, 0));
        let elsewhere = rig.panel.connections(ROOT, Some(Id::new(99))).unwrap();
        assert!(elsewhere.is_empty());
    }
}
