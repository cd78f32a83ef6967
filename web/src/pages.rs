//! The pages, one file a noun or an errand. A page is: read what was sent, call one operation, draw a template.

pub mod account;
pub mod audit;
pub mod certificates;
pub mod dashboard;
pub mod device;
pub mod first_start;
pub mod form;
pub mod guide;
pub mod jobs;
pub mod join;
pub mod joins;
pub mod list;
pub mod live;
pub mod network;
pub mod people;
pub mod record;
pub mod remove;
pub mod search;
pub mod server;
pub mod sign_in;
pub mod theme;
pub mod trouble;
