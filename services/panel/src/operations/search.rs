//! Search over everything that the actor may see.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Actor, Error, Kind, Panel, Work};
use crate::{
    noun::{
        Device, Group, Menu, Network, Noun, Organization, Place, Server, Subnet, Tunnel, User,
        Vdisk, Volume,
    },
    store::ListQuery,
};

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Hit {
    /// Its kind.
    pub noun: Noun,
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Where it lives.
    pub place: Place,
}

/// The most hits of one kind.
const MOST_HITS: usize = 8;

impl Panel {
    /// What has this text in its name, or in what else it is searched by; a few of each kind.
    ///
    /// # Errors
    /// The store failed.
    pub fn search(&self, actor: Actor, text: &str) -> Result<Vec<Hit>, Error> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        self.read(actor, |work| {
            let mut hits = work.hits::<Device>(text)?;
            hits.extend(work.hits::<Server>(text)?);
            hits.extend(work.hits::<Group>(text)?);
            hits.extend(work.hits::<Volume>(text)?);
            hits.extend(work.hits::<Vdisk>(text)?);
            hits.extend(work.hits::<Menu>(text)?);
            hits.extend(work.hits::<Subnet>(text)?);
            hits.extend(work.hits::<Network>(text)?);
            hits.extend(work.hits::<Tunnel>(text)?);
            hits.extend(work.hits::<User>(text)?);
            hits.extend(work.hits::<Organization>(text)?);
            Ok(hits)
        })
    }
}

impl Work<'_> {
    fn hits<T: Kind>(self, text: &str) -> Result<Vec<Hit>, Error> {
        let query = ListQuery {
            search: Some(text.to_owned()),
            limit: Some(MOST_HITS),
            ..ListQuery::default()
        };
        let page = self.tx.page::<T>(&self.scope::<T>(), &query)?;
        let hit = |row: crate::noun::Stored<T>| Hit {
            noun: T::NOUN,
            id: row.id.number(),
            name: row.value.name().to_owned(),
            place: row.place,
        };
        Ok(page.rows.into_iter().map(hit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ROOT, device, rig};

    #[test]
    fn search_finds_names_cards_and_addresses_and_only_what_the_actor_may_see() {
        let rig = rig();
        rig.add(device(10));
        let viewer = rig.user("labrador", "member", Some("viewer"));
        let found = |actor, text: &str| -> Vec<(Noun, String)> {
            let hits = rig.panel.search(actor, text).unwrap();
            hits.into_iter().map(|hit| (hit.noun, hit.name)).collect()
        };
        let one = [(Noun::Device, "pc-10".to_owned())];
        for text in ["PC-1", "52:54:00:00:01", "10.77.0.10"] {
            assert_eq!(found(viewer, text), one, "{text}");
        }
        let lab = [(Noun::Group, "lab".to_owned()), (Noun::Subnet, "lab".to_owned())];
        assert_eq!(found(viewer, "lab"), lab);
        assert_eq!(found(ROOT, "lab").len(), 3, "the user labrador too");
        assert_eq!(found(rig.user("nemo", "member", None), "lab"), []);
        assert_eq!(found(ROOT, " "), []);
        assert_eq!(found(ROOT, "'; DROP TABLE devices; --%_"), []);
    }
}
