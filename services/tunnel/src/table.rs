//! The table in force, with its look-ups made. Pure.

use std::collections::{BTreeMap, BTreeSet};

use model::tunnel::{Agent, Table};

/// A table that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A server stands in it twice.
    #[error("server {0} stands in the table twice")]
    Server(u64),
    /// Two servers have one port.
    #[error("port {0} leads to two servers")]
    Port(u16),
}

impl TableError {
    /// Whether the same table may do later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Server(_) | Self::Port(_) => false,
        }
    }
}

/// A table without contradictions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    table: Table,
    places: BTreeMap<u64, usize>,
}

impl InForce {
    /// Takes a table.
    ///
    /// # Errors
    /// It contradicts itself.
    pub fn new(table: Table) -> Result<Self, TableError> {
        let mut places = BTreeMap::new();
        let mut ports = BTreeSet::new();
        for (place, agent) in table.agents.iter().enumerate() {
            if places.insert(agent.server, place).is_some() {
                return Err(TableError::Server(agent.server));
            }
            if !ports.insert(agent.forward) {
                return Err(TableError::Port(agent.forward.get()));
            }
        }
        Ok(Self { table, places })
    }

    /// The table itself.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// A server of it.
    pub fn agent(&self, server: u64) -> Option<&Agent> {
        self.places.get(&server).and_then(|place| self.table.agents.get(*place))
    }
}

#[cfg(test)]
mod tests {
    use model::tunnel::ForwardPort;

    use super::*;

    fn agent(server: u64, port: u16) -> Agent {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0".parse().unwrap();
        Agent { server, forward: ForwardPort::new(port).unwrap(), key }
    }

    fn table(agents: Vec<Agent>) -> Table {
        Table { agents, ..Table::default() }
    }

    #[test]
    fn a_server_is_found_by_its_number() {
        let force = InForce::new(table(vec![agent(7, 10_001), agent(3, 10_000)])).unwrap();
        assert_eq!(force.agent(3), Some(&agent(3, 10_000)));
        assert_eq!(force.agent(4), None);
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        let twice = InForce::new(table(vec![agent(1, 10_000), agent(1, 10_001)]));
        assert_eq!(twice, Err(TableError::Server(1)));
        let shared = InForce::new(table(vec![agent(1, 10_000), agent(2, 10_000)]));
        assert_eq!(shared, Err(TableError::Port(10_000)));
    }
}
