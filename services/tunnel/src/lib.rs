//! The tunnel: a relay that servers come to with OpenSSH and that the panel opens streams to them through. It carries ciphertext
//! and holds no secret of anybody but itself.

pub mod folders;
pub mod isolation;
pub mod keys;
pub mod refusal;
pub mod relay;
pub mod ssh;
pub mod sweep;
pub mod users;
