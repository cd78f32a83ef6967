//! The tunnel: a relay that servers come to with OpenSSH and that the panel opens streams to them through. It carries ciphertext
//! and holds no secret of anybody but itself.
//!
//! A tour: [`run`] starts everything; [`owner`] says whose the tunnel is and who may come in, which [`state`] keeps in
//! [`folders`], [`seed`] begins with, and [`table`] looks up in; [`serve`] takes connections in by what [`tls`] offers, each a
//! [`session`]; [`api`] answers the panel on them, or with [`pair`] who wants to be it, and says [`problem`]s; [`broker`] carries
//! [`counted`] bytes to the [`ports`] of servers, [`joins`] those of boxes that join; [`status`], [`faults`] and [`metrics`] say
//! how it goes; [`standing`] shows the box's screen what it needs, the [`host_key`] too, and [`ctl`] is its command line; [`peer`]
//! says who asks on a Unix socket. The side of OpenSSH: [`ssh`] makes sshd ready, [`users`] are those of servers, whom [`keys`] lets
//! in, [`sweep`] puts out, [`crowd`] thins out and [`isolation`] shuts in; [`relay`] brings boxes that join, and says a [`refusal`] as
//! [`keys`] does; [`whereabouts`] are the panel's, which is not shut out for ever.

pub mod api;
pub mod broker;
pub mod counted;
pub mod crowd;
pub mod ctl;
pub mod faults;
pub mod folders;
pub mod host_key;
pub mod isolation;
pub mod joins;
pub mod keys;
pub mod metrics;
pub mod owner;
pub mod pair;
pub mod peer;
pub mod ports;
pub mod problem;
mod processes;
pub mod refusal;
pub mod relay;
pub mod run;
pub mod seed;
pub mod serve;
pub mod session;
pub mod ssh;
pub mod standing;
pub mod state;
pub mod status;
pub mod sweep;
pub mod table;
pub mod tls;
pub mod users;
pub mod whereabouts;
