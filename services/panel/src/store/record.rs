//! What the store needs to know of a noun, and the statements that follow from it.
//!
//! In every statement of a noun `?1` is the record's value as JSON, `?2` the number of what it belongs to, `?3` its own number,
//! and `t` its row.

use rusqlite::{OptionalExtension, Row, ToSql};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use super::{Error, Tx};
use crate::noun::{Id, Noun, Place, Stored};

/// Where a noun's records live, with the column that has its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// At the panel itself.
    Panel,
    /// In the organization of this column.
    Organization(&'static str),
    /// In the network of this column.
    Network(&'static str),
}

/// A noun that the store keeps.
pub trait Record: Clone + Serialize + DeserializeOwned {
    /// Its word.
    const NOUN: Noun;
    /// Its table.
    const TABLE: &'static str;
    /// Where its records live, for access.
    const OWNER: Owner;
    /// The column of what a new record belongs to.
    const PARENT: Option<&'static str>;
    /// Columns, each with the expression that takes it out of the value.
    const COLUMNS: &'static [(&'static str, &'static str)];
    /// Statements that write what a record has many of, after its row.
    const CHILDREN: &'static [&'static str] = &[];
    /// The value of a row as JSON.
    const VALUE: &'static str;
    /// What lists sort by, and the column; the first is the default. Each has an index.
    const SORTS: &'static [(&'static str, &'static str)] = &[("name", "t.name")];
    /// What lists filter by, and the condition on `?`.
    const FILTERS: &'static [(&'static str, &'static str)] = &[];
    /// The condition on `?` that search looks by; the text is in lower case.
    const SEARCH: &'static str = "instr(lower(t.name), ?)";
    /// What hangs on a record: the noun, and the statement that lists numbers and names of it, for the record numbered `?1`.
    const DEPENDENTS: &'static [(Noun, &'static str)] = &[];

    /// Its name, as people see it.
    fn name(&self) -> &str;
}

/// Something that hangs on a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Dependent {
    /// Its kind.
    pub noun: Noun,
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
}

/// The most dependents that are told.
const MOST_DEPENDENTS: usize = 100;

impl Place {
    /// The number of the organization or network; absent for the panel.
    pub(super) fn number(self) -> Option<i64> {
        match self {
            Self::Panel => None,
            Self::Organization(id) => Some(id.number()),
            Self::Network(id) => Some(id.number()),
        }
    }
}

/// What every statement that reads records begins with.
pub(super) fn columns<T: Record>() -> String {
    let owner = match T::OWNER {
        Owner::Panel => "NULL",
        Owner::Organization(column) | Owner::Network(column) => column,
    };
    format!("t.id, {owner}, t.version, {}", T::VALUE)
}

/// Reads the columns of [`columns`].
pub(super) fn parse<T: Record>(row: &Row<'_>) -> Result<Stored<T>, Error> {
    let id: i64 = row.get(0)?;
    let place = match (T::OWNER, row.get(1)?) {
        (Owner::Panel, _) | (_, None) => Place::Panel,
        (Owner::Organization(_), Some(number)) => Place::Organization(Id::new(number)),
        (Owner::Network(_), Some(number)) => Place::Network(Id::new(number)),
    };
    let json = row.get_ref(3)?.as_str().map_err(|e| Error::Sqlite(e.into()))?;
    let value = serde_json::from_str(json).map_err(|source| Error::Damaged {
        noun: T::NOUN,
        id,
        source,
    })?;
    Ok(Stored { id: Id::new(id), place, version: row.get(2)?, value })
}

impl Tx<'_> {
    /// The record with this number.
    pub(crate) fn get<T: Record>(self, id: Id<T>) -> Result<Option<Stored<T>>, Error> {
        let sql = format!("SELECT {} FROM {} t WHERE t.id = ?", columns::<T>(), T::TABLE);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([id.number()])?;
        rows.next()?.map(parse).transpose()
    }

    /// The number of the record with this name in a network, an organization, or the panel.
    pub(crate) fn find<T: Record>(self, parent: Place, name: &str) -> Result<Option<Id<T>>, Error> {
        let within = T::PARENT.unwrap_or("NULL");
        let sql = format!("SELECT id FROM {} WHERE name = ?1 AND {within} IS ?2", T::TABLE);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let id = statement.query_row((name, parent.number()), |row| row.get(0)).optional()?;
        Ok(id.map(Id::new))
    }

    /// Every record of a network, an organization, or the panel, by name: for what is made of them all.
    pub(crate) fn all<T: Record>(self, parent: Place) -> Result<Vec<Stored<T>>, Error> {
        let within = T::PARENT.map_or("NULL".to_owned(), |column| format!("t.{column}"));
        let sql = format!(
            "SELECT {} FROM {} t WHERE {within} IS ?1 ORDER BY t.name",
            columns::<T>(),
            T::TABLE
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([parent.number()])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(parse(row)?);
        }
        Ok(all)
    }

    /// Makes a record.
    pub(crate) fn insert<T: Record>(self, parent: Place, value: &T) -> Result<Id<T>, Error> {
        let columns = T::PARENT.iter().copied().chain(T::COLUMNS.iter().map(|(name, _)| *name));
        let values = T::PARENT.iter().map(|_| "?2").chain(T::COLUMNS.iter().map(|(_, from)| *from));
        let sql = format!(
            "INSERT INTO {} ({}) VALUES ({})",
            T::TABLE,
            columns.collect::<Vec<_>>().join(", "),
            values.collect::<Vec<_>>().join(", "),
        );
        let json = serde_json::to_string(value).map_err(Error::Json)?;
        self.run(&sql, &json, parent, None)?;
        let id = self.connection.last_insert_rowid();
        for child in T::CHILDREN {
            self.run(child, &json, parent, Some(id))?;
        }
        Ok(Id::new(id))
    }

    /// Writes a record's new value and raises its version.
    pub(crate) fn update<T: Record>(
        self,
        id: Id<T>,
        parent: Place,
        value: &T,
    ) -> Result<(), Error> {
        let sets = T::COLUMNS.iter().map(|(name, from)| format!("{name} = {from}"));
        let sql = format!(
            "UPDATE {} SET version = version + 1, {} WHERE id = ?3",
            T::TABLE,
            sets.collect::<Vec<_>>().join(", "),
        );
        let json = serde_json::to_string(value).map_err(Error::Json)?;
        for statement in std::iter::once(sql.as_str()).chain(T::CHILDREN.iter().copied()) {
            self.run(statement, &json, parent, Some(id.number()))?;
        }
        Ok(())
    }

    /// Deletes a record.
    pub(crate) fn delete<T: Record>(self, id: Id<T>) -> Result<(), Error> {
        let sql = format!("DELETE FROM {} WHERE id = ?", T::TABLE);
        self.connection.prepare_cached(&sql)?.execute([id.number()])?;
        Ok(())
    }

    /// What hangs on a record; a long list is cut.
    pub(crate) fn dependents<T: Record>(self, id: Id<T>) -> Result<Vec<Dependent>, Error> {
        let mut found = Vec::new();
        for (noun, sql) in T::DEPENDENTS {
            let left = MOST_DEPENDENTS.saturating_sub(found.len());
            let sql = format!("{sql} ORDER BY 2 LIMIT {left}");
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([id.number()])?;
            while let Some(row) = rows.next()? {
                found.push(Dependent { noun: *noun, id: row.get(0)?, name: row.get(1)? });
            }
        }
        Ok(found)
    }

    fn run(self, sql: &str, json: &str, parent: Place, id: Option<i64>) -> Result<(), Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let parent = parent.number();
        let parameters: [&dyn ToSql; 3] = [&json, &parent, &id];
        for (index, value) in (1..=statement.parameter_count()).zip(parameters) {
            statement.raw_bind_parameter(index, value)?;
        }
        statement.raw_execute()?;
        Ok(())
    }
}
