//! The nouns' tables, as lists of columns; [`super::record`] says what each part is.

mod fleet;
mod people;
mod tree;
