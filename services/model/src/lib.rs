//! The words of the product as types, and the pure planning over them: no I/O, no async.
