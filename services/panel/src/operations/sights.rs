//! What the link to the fleet knows at this moment, for those who may see the servers.

use std::sync::Arc;

use model::wire::{Event, EventKind};
use tokio::sync::watch;

use super::{Actor, Error, Panel};
use crate::{
    fleet::{Board, Connection, Connections},
    noun::{Device, Id, Network, Place, Server},
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
            Ok(self.board.last(server, most, |_| true))
        })
    }

    /// What is remembered of a device's boots, the newest first, with the server that saw it.
    ///
    /// # Errors
    /// There is no such device that the actor may see.
    pub fn boots(
        &self,
        actor: Actor,
        device: Id<Device>,
        most: usize,
    ) -> Result<Vec<(Id<Server>, Event)>, Error> {
        self.read(actor, |work| {
            let stored = work.seen(device)?;
            let network = match stored.place {
                Place::Network(network) => Some(network),
                Place::Panel | Place::Organization(_) => None,
            };
            let of_device = |event: &Event| match &event.kind {
                EventKind::Boot { device, .. } | EventKind::Refused { device, .. } => {
                    *device == stored.value.name
                }
                EventKind::Discovered(_)
                | EventKind::Resource { .. }
                | EventKind::Applied { .. }
                | EventKind::Converged { .. } => false,
            };
            let mut boots = Vec::new();
            for server in work.tx.servers_of(&work.scope::<Server>(), network)? {
                let events = self.board.last(server, most, of_device);
                boots.extend(events.into_iter().map(|event| (server, event)));
            }
            boots.sort_by_key(|(_, event)| std::cmp::Reverse((event.time_ms, event.number)));
            boots.truncate(most);
            Ok(boots)
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
    use model::wire::BootStep;

    use super::*;
    use crate::{
        fleet::Happened,
        testing::{ROOT, device, rig},
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

    #[test]
    fn a_device_has_its_own_boots_the_newest_first() {
        let rig = rig();
        let pc = rig.add(device(10)).id;
        let viewer = rig.user("vera", "member", Some("viewer"));
        for (number, name) in [(1, "pc-10"), (2, "pc-11"), (3, "pc-10")] {
            let kind = EventKind::Boot {
                device: name.parse().unwrap(),
                boot: "0123456789abcdef0123456789abcdef".parse().unwrap(),
                step: BootStep::Kernel,
                message: String::new(),
            };
            let event = Event { number, time_ms: number, kind };
            rig.panel.board().happened(Happened { server: rig.server.id, event });
        }
        let boots = rig.panel.boots(viewer, pc, 9).unwrap();
        let numbers: Vec<_> = boots.iter().map(|(_, event)| event.number).collect();
        assert_eq!(numbers, [3, 1]);
        assert!(boots.iter().all(|(server, _)| *server == rig.server.id));
        assert!(matches!(
            rig.panel.boots(rig.user("nemo", "member", None), pc, 9),
            Err(Error::NotFound { .. })
        ));
    }
}
