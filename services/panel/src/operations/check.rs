//! What a value must hold beyond its type. Whatever a server's agent would say of it is asked of the same validation
//! ([`model::validate`]), over a document with just this record in it, so that the panel and the agents can't differ.

mod people;
mod site;

use model::{desired::Desired, name::Mark, validate::validate};

use super::{Error, Work};
use crate::{
    noun::{Id, Place, Stored},
    store::{FieldError, Record},
};

/// A noun that people work with.
pub trait Kind: Record {
    /// Everything that is wrong with this value, were it kept at this place instead of the one before.
    #[doc(hidden)]
    fn check(
        &self,
        work: Work<'_>,
        place: Place,
        before: Option<&Stored<Self>>,
    ) -> Result<Vec<FieldError>, Error>;

    /// What is wrong now that it is written, before anybody sees it.
    #[doc(hidden)]
    fn check_after(&self, _work: Work<'_>, _id: Id<Self>) -> Result<Vec<FieldError>, Error> {
        Ok(Vec::new())
    }

    /// Why this can't be deleted, apart from what hangs on it.
    #[doc(hidden)]
    fn check_delete(
        &self,
        _work: Work<'_>,
        _stored: &Stored<Self>,
    ) -> Result<Vec<FieldError>, Error> {
        Ok(Vec::new())
    }

    /// The mark of its data on a server, if it has any.
    fn mark(&self) -> Option<Mark> {
        None
    }
}

/// The faults of a document below a path, each told by the field behind it.
fn faults_below(desired: &Desired, path: &str) -> Vec<FieldError> {
    validate(desired)
        .into_iter()
        .filter_map(|fault| {
            let field = fault.path.strip_prefix(path)?;
            Some(FieldError::new(field.trim_start_matches('.'), fault.message))
        })
        .collect()
}

/// A name that is part of where data lies on a server, so that another name would be other data.
fn same<T: PartialEq>(
    faults: &mut Vec<FieldError>,
    field: &str,
    before: Option<T>,
    after: T,
    message: &str,
) {
    if before.is_some_and(|before| before != after) {
        faults.push(FieldError::new(field, message));
    }
}
