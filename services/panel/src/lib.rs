//! The control plane: what the fleet shall be, who may change it, and what each server is told. The web console and the JSON API
//! are built over this crate; nothing here knows of HTML or of routes.
