//! Redshard: a Redis-compatible server, sharded and thread-per-core, on io_uring.
//!
//! One process uses every core; each core owns its share of the keys outright; nothing on the path
//! of a data command is locked; nothing forks. This page is the map.
//!
//! # The floors
//!
//! A module uses what is on its own floor or below, never above; `tests/tidy.rs` reads the imports
//! and fails otherwise. Floors 0 to 5 know no socket, no file and no clock but those few that the same
//! test names, each with its reason: they are state machines driven by calls, so that tests can run
//! many shards in one thread and delay what they like. What a command asks of the world it asks of
//! [`instance::Host`].
//!
//! | floor | module | what it is |
//! |---|---|---|
//! | 0 | [`base`] | clock, timer wheel, `/proc`, hash, key, slot, number, glob, quoted words, every limit, every error text |
//! | 1 | [`resp`] | bytes to arguments, replies to bytes |
//! | 1 | [`value`] | what a key can hold |
//! | 1 | [`config`] | options, declared once |
//! | 1 | [`rdb`] | keys to the bytes of files, and back |
//! | 2 | [`shard`] | one core's data: table, the door that every change passes, expiry, locks, watches, journal |
//! | 3 | [`session`], [`instance`], [`metrics`] | what one client remembers; what all shards share; what a shard counts |
//! | 4 | [`command`] | every command, declared once, beside its handler |
//! | 4 | [`exposition`] | the server for those who watch it: metrics, health, a page |
//! | 5 | [`route`] | who runs what where, and in which order |
//! | 6 | [`persist`] | what lasts: snapshots of all shards, and loading them again |
//! | 6 | [`replica`] | replication as state machines: the stream that is kept, replicas, the link to a primary |
//! | 7 | [`server`] | io_uring, sockets, threads: the world |
//!
//! # The journey of one request
//!
//! `GET user:7` arrives at a socket of shard 0, and shard 1 owns the key:
//!
//! 1. [`server`]'s loop finds a completion in shard 0's ring: bytes in a provided buffer. It hands
//!    them to [`route::node::Node::feed`].
//! 2. The [`resp::Parser`] finds the words, without copying. [`command::find`] finds the
//!    declaration; the key's hash starts a prefetch.
//! 3. The declaration says [`command::Run::Owner`]: one key, one shard. The key's slot says shard 1,
//!    so the arguments are appended to this turn's [`route::batch::Batch`] for it, and the client
//!    is promised a reply. (Had the key been here, the handler would have run now and written its
//!    reply into the buffer that goes to the socket.)
//! 4. At the end of the turn the batch is published through the [`route::mailbox`], and shard 1 is
//!    woken if it sleeps.
//! 5. Shard 1 takes it, runs the handler on its [`shard::db::Db`], the reply goes into the batch,
//!    the batch goes back.
//! 6. Shard 0 puts the reply where it was promised, in the order of the client's commands, and the
//!    loop queues one send for all that the client is owed and that may pass the [`route::gate`].
//!
//! If this was all the client had asked for, the reply takes a shorter way: shard 1 hands it to the
//! client's socket itself, and what goes back to shard 0 wakes nobody ([`route::departure`]).
//!
//! What concerns the server as a whole (SAVE, SHUTDOWN) is asked of the first shard, which leads
//! ([`route::requests`]).
//!
//! A command over several shards goes another way from step 3 on: shard 0's coordinator asks the
//! shards of its keys for locks, and sends each its part. [`route`] has the map of that floor.
//!
//! # Invariants
//!
//! 1. Nothing below `server` names glommio, io_uring, a socket or a file descriptor.
//! 2. No borrow of a shard crosses an `.await`: there is one, between two turns
//!    (`server/shard_loop.rs`), and background tasks never see a shard.
//! 3. A handler never knows which shard runs it.
//! 4. A reply is written once, in its final bytes.
//! 5. Nothing on the hot path allocates per command, beyond what the data keeps.
//! 6. A queue never blocks its producer: it spills.
//! 7. Every limit has a name in [`base::limits`] or in the configuration's table.
//! 8. Every input is hostile: bounded, checked, answered by an error; nothing panics on it, and
//!    should something panic all the same, the process ends (`server/crash.rs`).
//! 9. Memory that a client can make the server use is bounded before it is used.
//! 10. Every change of a key passes one door (`shard/change.rs`), before and after.
//! 11. A file that is saved is complete or absent, and is the data at one moment of all shards
//!     (`persist/snapshot.rs`, `server/files.rs`); nothing half loaded is ever served.
//! 12. A command is judged once, by every shard that runs a part of it, before any part has run
//!     (`route/participant.rs`).

pub mod base;
pub mod command;
pub mod config;
pub mod exposition;
pub mod instance;
pub mod metrics;
pub mod persist;
pub mod rdb;
pub mod replica;
pub mod resp;
pub mod route;
pub mod server;
pub mod session;
pub mod shard;
pub mod value;
