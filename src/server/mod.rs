//! Floor 7: the world. The only floor that knows glommio, io_uring, sockets and file descriptors.

mod acceptor;
mod admin;
mod apply;
mod background;
pub mod boot;
pub mod check;
mod connect;
mod connection;
mod crash;
mod drill;
mod files;
mod host;
mod id;
pub mod listen;
pub mod logs;
mod neighbours;
mod output;
mod process;
mod pulse;
mod quiescence;
mod ring;
mod shard_loop;
mod supervise;
mod target;
mod title;
mod transfer;
