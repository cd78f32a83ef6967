//! The panel's own settings, for superadmins.

use std::collections::BTreeSet;

use model::code::Host;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Actor, Error, Panel, Work, invalid, work::Note};
use crate::{
    access::{Matter, Verb},
    alerts::BackupFacts,
    noun::{Id, Noun, Organization, Place},
    store::{self, FieldError},
};

/// How long a session lasts where nobody set it.
const SESSION_HOURS: u32 = 12;
/// The longest: 30 days.
const MOST_SESSION_HOURS: u32 = 30 * 24;
const MOST_NAMES: usize = 16;

/// The panel's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long somebody stays signed in, in hours.
    pub session_hours: u32,
    /// Names and addresses by which the panel is reached, beside those of its box; the first stands in notices.
    pub public_names: Vec<String>,
    /// The organization whose channels are told of what is wrong with the panel itself.
    pub notices_of: Option<Id<Organization>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { session_hours: SESSION_HOURS, public_names: Vec::new(), notices_of: None }
    }
}

impl Settings {
    fn faults(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if !(1..=MOST_SESSION_HOURS).contains(&self.session_hours) {
            let message = format!("between 1 and {MOST_SESSION_HOURS} hours");
            faults.push(FieldError::new("session_hours", message));
        }
        let distinct: BTreeSet<&String> = self.public_names.iter().collect();
        if distinct.len() != self.public_names.len() || self.public_names.len() > MOST_NAMES {
            let message = format!("name each once, and {MOST_NAMES} at the most");
            faults.push(FieldError::new("public_names", message));
        }
        for name in &self.public_names {
            if let Err(error) = Host::try_from(name.clone()) {
                faults.push(FieldError::new("public_names", format!("{name}: {error}")));
            }
        }
        faults
    }
}

impl Panel {
    /// The settings as the panel itself goes by them.
    ///
    /// # Errors
    /// The store failed.
    pub fn settings_in_force(&self) -> Result<Settings, Error> {
        Ok(self.store.read(|tx| tx.settings())?.1)
    }

    /// The settings and their version, and when the panel was backed up.
    ///
    /// # Errors
    /// The actor is no superadmin.
    pub fn settings(&self, actor: Actor) -> Result<(u64, Settings, BackupFacts), Error> {
        self.read(actor, |work| {
            work.allow_in(Verb::Read, Matter::Settings, Place::Panel, Noun::Organization)?;
            let (version, settings) = work.tx.settings()?;
            Ok((version, settings, work.tx.backup_facts()?))
        })
    }

    /// Changes the settings. `version` is the one that the change was made from.
    ///
    /// # Errors
    /// The actor is no superadmin; somebody else changed them meanwhile; fields are wrong.
    pub fn change_settings(
        &self,
        actor: Actor,
        version: u64,
        settings: &Settings,
    ) -> Result<(), Error> {
        self.write(actor, |work| {
            work.allow_in(Verb::Change, Matter::Settings, Place::Panel, Noun::Organization)?;
            let (now, before) = work.tx.settings()?;
            if now != version {
                let current = serde_json::to_value(&before).map_err(store::Error::Json)?;
                return Err(Error::Conflict { noun: Noun::Organization, version: now, current });
            }
            let mut faults = settings.faults();
            if let Some(organization) = settings.notices_of
                && work.tx.get(organization)?.is_none()
            {
                faults.push(FieldError::new("notices_of", "there is no such organization"));
            }
            invalid(faults)?;
            work.tx.keep_settings(settings)?;
            let value = |settings| json!({ "settings": settings });
            work.note_panel(Some(value(&before)), value(settings))
        })
    }

    /// Whether the actor may make a backup.
    ///
    /// # Errors
    /// They may not.
    pub fn may_back_up(&self, actor: Actor) -> Result<(), Error> {
        self.read(actor, |work| {
            work.allow_in(Verb::Read, Matter::Settings, Place::Panel, Noun::Organization)
        })
    }

    /// Notes that a backup was made.
    ///
    /// # Errors
    /// The actor is no superadmin.
    pub fn note_backup(&self, actor: Actor) -> Result<(), Error> {
        self.write(actor, |work| {
            work.allow_in(Verb::Change, Matter::Settings, Place::Panel, Noun::Organization)?;
            work.tx.note_backup(work.now_ms)?;
            work.note_panel(None, json!({ "backup": "made" }))
        })
    }
}

impl Work<'_> {
    /// Whether the actor may do this in a matter there; where they may not even see it, there is none for them. Such a matter is
    /// told as the noun that it hangs on.
    pub(crate) fn allow_in(
        self,
        verb: Verb,
        matter: Matter,
        place: Place,
        noun: Noun,
    ) -> Result<(), Error> {
        if self.who.may_in(verb, matter, place, None) {
            Ok(())
        } else if self.who.may_in(Verb::Read, matter, place, None) || place == Place::Panel {
            Err(Error::Forbidden { verb, noun })
        } else {
            Err(Error::NotFound { noun })
        }
    }

    /// Logs what happened to the panel itself.
    pub(super) fn note_panel(
        self,
        before: Option<serde_json::Value>,
        after: serde_json::Value,
    ) -> Result<(), Error> {
        self.note(Note {
            verb: Verb::Change,
            noun: Noun::Organization,
            id: 0,
            name: "panel".to_owned(),
            place: Place::Panel,
            before,
            after: Some(after),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ROOT, fields, rig};

    #[test]
    fn settings_are_for_superadmins_and_two_of_them_find_out() {
        let rig = rig();
        let root = rig.user("root", "superadmin", None);
        let (version, settings, backup) = rig.panel.settings(root).unwrap();
        assert_eq!((version, settings, backup.made_ms), (1, Settings::default(), None));
        let next = Settings {
            session_hours: 2,
            public_names: vec!["panel.example.org".into(), "192.0.2.7".into()],
            notices_of: Some(rig.organization),
        };
        rig.panel.change_settings(root, 1, &next).unwrap();
        assert_eq!(rig.panel.settings_in_force().unwrap(), next);
        let late = rig.panel.change_settings(root, 1, &Settings::default());
        assert!(matches!(late, Err(Error::Conflict { version: 2, .. })), "{late:?}");
        for actor in [rig.user("olga", "organization-admin", None), rig.user("m", "member", None)] {
            let refused = rig.panel.settings(actor);
            assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
            let refused = rig.panel.change_settings(actor, 2, &next);
            assert!(matches!(refused, Err(Error::Forbidden { .. })), "{refused:?}");
            assert!(matches!(rig.panel.note_backup(actor), Err(Error::Forbidden { .. })));
            assert!(rig.panel.may_back_up(actor).is_err());
        }
        rig.panel.note_backup(root).unwrap();
        assert!(rig.panel.settings(root).unwrap().2.made_ms.is_some());
    }

    #[test]
    fn settings_that_lock_everybody_out_are_refused() {
        let rig = rig();
        let wrong = Settings {
            session_hours: 0,
            public_names: vec!["a b".into()],
            notices_of: Some(Id::new(99)),
        };
        let refused = rig.panel.change_settings(ROOT, 1, &wrong);
        assert_eq!(fields(refused), ["session_hours", "public_names", "notices_of"]);
    }
}
