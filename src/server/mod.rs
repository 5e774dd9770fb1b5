//! Floor 7: the world. The only floor that knows glommio, io_uring, sockets and file descriptors.

pub mod boot;
mod connection;
mod door;
pub mod listen;
mod outside;
mod pulse;
mod ring;
mod shard_loop;
