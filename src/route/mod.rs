//! Floor 5: who runs what where, and in which order.
//!
//! A [`node::Node`] is one shard with its clients: fed with bytes, it leaves replies; what concerns
//! other shards it says through its [`mailbox`]. It knows no socket and no clock, so that the
//! simulator can run many of them in one thread and delay whatever it likes.
//!
//! # Who owns what
//!
//! | part | what it owns |
//! |---|---|
//! | [`participant`] | the data, the locks, and the judgement whether a command may run |
//! | [`coordinator`] | commands of clients here that take several shards or several steps, each a [`transaction`]; [`plan`] says where their parts run, [`gather`] makes one reply of theirs |
//! | [`clients`] | the clients: what is due to them, whose input goes on |
//! | [`pubsub`] | what they have subscribed to, and messages on their way to them |
//! | [`post`] | what is said to others and to itself, in one language ([`message`]) |
//! | [`observer`] | what is counted and timed, and what is worth a second look |
//! | [`requests`] | what is asked of the server as a whole, and what it does by itself |
//! | [`stream`] | one stream of all shards' journals, for replicas |
//! | [`departure`] | replies that leave from the shard that made them |
//!
//! None of them knows another: what one needs of the others for a call it is handed
//! ([`participant::Context`]). [`node`] leads a turn through them; [`feed`] and [`dispatch`] lead a
//! command.
//!
//! # The rules of order
//!
//! Commands over several shards are atomic and isolated: see [`coordinator`] and [`participant`],
//! with the locks in [`crate::shard::locks`]. Single-shard commands take no number and no lock; while nobody holds
//! a lock on their shard, one branch is all they pay; one that meets a lock waits in its queue.
//!
//! **Pipelines stay causal**: who has *received* a reply that shows the effect of a later command of a
//! pipeline, and asks then, sees every earlier command of it, though the two ran on different shards at
//! the same time; and so does whoever hears of it from there.
//! 1. A shard publishes all batches of a turn together, and before any reply of that turn is sent
//!    ([`mailbox`]).
//! 2. A receiver takes what is stamped up to its cut and runs it in the order of stamps, before its
//!    own clients' commands; nothing runs that is later than mail it had to leave ([`mailbox`] has
//!    the proof).
//! 3. Own-shard commands of a pipeline run at once: nobody can act on them before 1.
//! 4. A multi-shard command holds back the later commands of its own pipeline until it has been
//!    answered.
//!
//! It is causality, not a total order. Commands of one pipeline that run on different shards are not
//! ordered among each other, except in MULTI: beside a client that pipelines `SET x`, `SET y`, `SET z`,
//! one that pipelines `GET z`, `GET y`, `GET x` may see the new z and an old x, since it asked for x
//! before it had been told of z. In the stream that replicas get ([`stream`]) they are not ordered
//! either. [`pipeline`] orders them for those who ask for it.

#[cfg(test)]
mod alone;
pub mod batch;
pub mod client;
mod clients;
mod coordinator;
pub mod departure;
mod dispatch;
mod execute;
pub mod feed;
pub mod gate;
mod gather;
pub mod mailbox;
pub mod message;
mod monitor;
mod multi;
pub mod node;
mod observer;
mod participant;
mod pause;
mod pipeline;
mod plan;
mod post;
pub mod pubsub;
mod replicas;
pub mod requests;
mod rules;
mod session;
#[cfg(test)]
mod simulator;
pub mod stream;
mod timers;
mod transaction;
mod walk;
