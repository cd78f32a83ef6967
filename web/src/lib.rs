//! The console of the panel: pages over the operations of [`panel`], and nothing that is decided here.
//!
//! A tour: [`run`] is the service's life, [`serve`] its connections, [`routes`] the one table of what is answered. A request passes
//! [`guard`], which finds out who asks and takes changes from our own pages alone; then a page of [`pages`] reads the form
//! ([`fields`], and [`shapes`] for each noun), calls one operation through [`app`], and draws a template into the [`frame`] of
//! whoever asked. What goes wrong is a [`problem`]. [`fleet`] runs the link to the servers beside all that, `boxes` answers machines
//! that want to join, [`lookout`] goes the panel's rounds (alerts and samples), and the JSON [`api`] does by the same operations
//! what the pages do.

pub mod admin;
pub mod api;
pub mod app;
pub mod arrivals;
mod assets;
pub mod authorities;
pub mod backup;
mod boxes;
pub mod browsers;
pub mod chart;
pub mod fields;
pub mod fleet;
pub mod folder;
mod format;
pub mod frame;
pub mod guard;
pub mod lookout;
pub mod notices;
pub mod pages;
pub mod problem;
mod redirect;
pub mod restore;
pub mod routes;
pub mod run;
pub mod seeds;
pub mod serve;
pub mod shapes;
