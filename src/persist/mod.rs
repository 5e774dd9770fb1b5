//! Floor 6: what lasts. State machines between the data and an input or output of bytes; who reads and
//! writes files is [`crate::server`].

pub mod loader;
