//! Floor 1: bytes in, bytes out. RESP2 and RESP3 as the Redis protocol specification has them.

mod args;
mod parse;
mod reply;

pub use args::{Args, Span};
pub use parse::{Limits, Parsed, Parser, ProtocolError};
pub use reply::{Reply, ReplyBuf};
