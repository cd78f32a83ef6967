//! Making something by a request that may come again, because whoever sent it heard no answer: its key says that it is the same
//! (draft-ietf-httpapi-idempotency-key-header). What was made, and that it was, stand in one transaction.

use sha2::{Digest as _, Sha256};

use super::{Actor, Error, Kind, Panel};
use crate::{
    access::Verb,
    noun::{Place, Stored},
    store::{self, Digest, FieldError},
};

/// How long a key is known.
const KEPT_MS: u64 = 24 * 3600 * 1000;
/// How many keys of one user are known; of more, the eldest are forgotten.
const MOST_KEYS: usize = 1000;

impl Panel {
    /// As [`Panel::create`], and once for a user's key: the same request is answered as it was before.
    ///
    /// # Errors
    /// As [`Panel::create`]; the key came with another request, which the field `idempotency-key` tells.
    pub fn create_once<T: Kind>(
        &self,
        actor: Actor,
        parent: Place,
        value: &T,
        key: &str,
    ) -> Result<Stored<T>, Error> {
        let asked = serde_json::to_vec(&(T::NOUN, parent, value)).map_err(store::Error::Json)?;
        let asked = Digest(Sha256::digest(asked).into());
        self.write(actor, |work| {
            let Some(user) = work.who.user else { return work.create(parent, value) };
            // A token may count for less than the one that the request came with first.
            work.allow(Verb::Create, T::NOUN, parent)?;
            let until_ms = work.now_ms.saturating_sub(KEPT_MS);
            work.tx.forget_creations(user, until_ms, MOST_KEYS - 1)?;
            match work.tx.creation(user, key)? {
                Some((before, answer)) if before == asked => {
                    Ok(serde_json::from_str(&answer).map_err(store::Error::Json)?)
                }
                Some(_) => {
                    let message = "this key came with another request: take a new one for this";
                    Err(Error::Invalid(vec![FieldError::new("idempotency-key", message)]))
                }
                None => {
                    let made = work.create(parent, value)?;
                    let answer = serde_json::to_string(&made).map_err(store::Error::Json)?;
                    work.tx.keep_creation(user, key, asked, &answer, work.now_ms)?;
                    Ok(made)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{
        noun::Device,
        store::ListQuery,
        testing::{ROOT, device, fields, rig},
    };

    #[test]
    fn a_request_that_comes_again_makes_nothing_and_is_answered_as_before() {
        let rig = rig();
        let tina = rig.user("tina", "member", Some("technician"));
        let anna = rig.user("anna", "member", Some("admin"));
        let make =
            |actor, number, key| rig.panel.create_once(actor, rig.at(), &device(number), key);
        let count = || rig.panel.count::<Device>(ROOT, &ListQuery::default()).unwrap();
        let made = make(tina, 10, "one").unwrap();
        assert_eq!(make(tina, 10, "one").unwrap(), made);
        assert_eq!(count(), 1);
        assert_eq!(fields(make(tina, 11, "one")), ["idempotency-key"]);
        assert_eq!(fields(make(anna, 10, "one")), ["address"], "it is a request of somebody else");
        make(tina, 11, "two").unwrap();
        let vera = rig.user("vera", "member", Some("viewer"));
        assert!(matches!(make(vera, 10, "one"), Err(Error::Forbidden { .. })));
        rig.now.fetch_add(KEPT_MS, Ordering::Relaxed);
        assert_eq!(fields(make(tina, 10, "one")), ["address"], "it is forgotten");
        assert_eq!(count(), 2);
    }

    #[test]
    fn what_was_refused_is_asked_anew_with_its_key() {
        let rig = rig();
        let tina = rig.user("tina", "member", Some("technician"));
        let taken = rig.add(device(10));
        let make = || rig.panel.create_once(tina, rig.at(), &device(10), "key");
        assert!(make().is_err());
        rig.panel.delete(ROOT, taken.id, taken.version, crate::operations::Data::Keep).unwrap();
        make().unwrap();
    }

    #[test]
    fn only_the_newest_keys_of_a_user_are_known() {
        let rig = rig();
        let tina = rig.user("tina", "member", Some("technician"));
        let Actor::User(user) = tina else { panic!("{tina:?}") };
        let kept = Digest([0; 32]);
        rig.panel
            .store()
            .write(|tx| {
                (0..MOST_KEYS + 5).try_for_each(|number| {
                    tx.keep_creation(user, &format!("key-{number}"), kept, "{}", u64::MAX / 4)
                })
            })
            .unwrap();
        rig.panel.create_once(tina, rig.at(), &device(10), "last").unwrap();
        let known = |key| rig.panel.store().read(|tx| tx.creation(user, key)).unwrap().is_some();
        assert!(known("last") && known("key-1004") && known("key-6"));
        assert!(!known("key-5") && !known("key-0"));
    }
}
