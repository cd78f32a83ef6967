//! Reads who somebody is, for [`crate::access`].

use rusqlite::OptionalExtension;
use serde::de::DeserializeOwned;

use super::{Error, Tx};
use crate::{
    access::{Limit, Rank, Role, Standing, Standings},
    noun::{Id, Network, Noun, Organization, User},
};

/// A word of a row as its type, through serde as everything else.
fn word<T: DeserializeOwned>(word: String, id: i64) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|source| Error::Damaged {
        noun: Noun::User,
        id,
        source,
    })
}

impl Tx<'_> {
    /// What a user is; nothing when there is no such user, or when they may not sign in.
    pub(crate) fn standings(self, user: Id<User>) -> Result<Option<Standings>, Error> {
        let found: Option<(String, String, Option<i64>)> = self
            .connection
            .prepare_cached(
                "SELECT name, standing, organization_id FROM users WHERE id = ? AND disabled = 0",
            )?
            .query_row([user.number()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((name, standing, organization)) = found else { return Ok(None) };
        let standing: Standing = word(standing, user.number())?;
        let mut roles = Vec::new();
        let mut statement = self
            .connection
            .prepare_cached("SELECT network_id, role FROM user_roles WHERE user_id = ?")?;
        let mut rows = statement.query([user.number()])?;
        while let Some(row) = rows.next()? {
            let role: Role = word(row.get(1)?, user.number())?;
            roles.push((Id::new(row.get(0)?), role));
        }
        let organization = organization.map(Id::new);
        Ok(Some(Standings { user: Some(user), name, standing, organization, roles, limit: None }))
    }

    /// The limit and the name of an API token that is still good.
    pub(crate) fn token_limit(
        self,
        user: Id<User>,
        token: i64,
        now_ms: u64,
    ) -> Result<Option<(Limit, String)>, Error> {
        let found: Option<(String, Option<i64>, String)> = self
            .connection
            .prepare_cached(
                "SELECT most_rank, network_id, name FROM api_tokens WHERE id = ? AND user_id = ? AND expires_ms > ?",
            )?
            .query_row((token, user.number(), now_ms), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((most, network, name)) = found else { return Ok(None) };
        let most: Rank = word(most, user.number())?;
        Ok(Some((Limit { most, network: network.map(Id::new) }, name)))
    }

    /// The organization that a network belongs to.
    pub(crate) fn owner(self, network: Id<Network>) -> Result<Option<Id<Organization>>, Error> {
        let found: Option<i64> = self
            .connection
            .prepare_cached("SELECT organization_id FROM networks WHERE id = ?")?
            .query_row([network.number()], |row| row.get(0))
            .optional()?;
        Ok(found.map(Id::new))
    }

    /// The networks of an organization, or all.
    pub(crate) fn networks_of(
        self,
        organization: Option<Id<Organization>>,
    ) -> Result<Vec<Id<Network>>, Error> {
        let sql = "SELECT id FROM networks WHERE ?1 IS NULL OR organization_id = ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ids =
            statement.query_map([organization.map(Id::number)], |row| row.get(0).map(Id::new))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// How many networks, users and devices an organization has.
    pub(crate) fn possessions(
        self,
        organization: Id<Organization>,
    ) -> Result<(u32, u32, u32), Error> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT (SELECT count(*) FROM networks WHERE organization_id = ?1),
                        (SELECT count(*) FROM users WHERE organization_id = ?1),
                        (SELECT count(*) FROM devices WHERE network_id IN
                            (SELECT id FROM networks WHERE organization_id = ?1))",
            )?
            .query_row([organization.number()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        Ok(found)
    }

    /// How many may sign in and are superadmins: the last one can't go.
    pub(crate) fn superadmins(self) -> Result<u32, Error> {
        let sql = "SELECT count(*) FROM users WHERE standing = 'superadmin' AND disabled = 0";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// Whether somebody who may do all can sign in.
    pub(crate) fn has_superadmin_with_password(self) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM users WHERE standing = 'superadmin' AND disabled = 0 AND password_hash IS NOT NULL)";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }
}
