//! What every box does as a box: it shows what it is on its screen and serial port, and joins its panel.
//!
//! A tour: [`run`] starts everything; [`facts`] is what a box shows of itself, [`screen`] makes lines of it and [`terminals`] writes
//! them; [`join`] turns a join code into certificates; [`page`] is the first-boot page, where a person types one; [`relay`]
//! is what a tunnel's service says of itself; [`api`] is root's way in, [`ctl`] its command line, and [`local`] how one asks.

pub mod api;
pub mod ctl;
pub mod facts;
pub mod join;
pub mod local;
pub mod page;
pub mod relay;
pub mod run;
pub mod screen;
pub mod terminals;
