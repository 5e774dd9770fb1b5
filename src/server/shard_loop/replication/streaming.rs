//! A primary's stream on its way into the shards.
//!
//! It is run by a client like others, to which nothing is replied and nothing is refused: its commands go
//! through the same pipeline to all shards, its transactions are atomic over shards. Its offset counts what
//! has run, on whatever shard, and does not move within a transaction.

use super::super::ShardLoop;
use super::following::{Following, Stage};
use super::now_ms;
use crate::replica::link;
use crate::session::Close;
use bytes::Bytes;
use std::sync::atomic::Ordering;

/// For so long after the primary has asked how far this server is, it is told without being asked: who
/// writes and waits for that again and again finds the answer there already. (SET and WAIT 1 in turns, one
/// client: the WAIT took about 100 µs with the question, 34 without, with two shards 170 and 116.)
const EAGER_MS: i64 = 1_000;

impl ShardLoop {
    pub(super) fn begin_stream(&mut self) {
        let Some(state) = &mut self.replication else { return };
        let offset = state.history.offset;
        let Some(following) = &mut state.following else { return };
        (following.applied, following.dispatched) = (offset, offset);
        following.marks.clear();
        following.unmarked.clear();
        following.down_since_ms = None;
        following.retry.succeed();
        following.refused_retry.succeed();
        following.owed = Some((offset, offset));
        let (at, client) = (following.at, following.client);
        if let Some(client) = self.node.client_mut(client) {
            // Where a stream that was cut goes on, its database is the one that was selected last.
            client.session.db = state.stream_db;
        }
        state.show_offset(&self.instance);
        self.set_stage(Stage::Streaming);
        self.feed_later(at);
    }

    /// So much of the stream is on its way to where it runs.
    pub(in super::super) fn has_run(&mut self, bytes: &[u8]) {
        let heard_ms = now_ms(&self.node);
        let progress = &self.instance.replication().progress;
        progress.heard_ms.store(heard_ms, Ordering::Relaxed);
        progress.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let Some(state) = &mut self.replication else { return };
        let Some(following) = &mut state.following else { return };
        // What a transaction without an end begins with has not happened yet.
        let (whole, begun) = bytes.split_at(self.node.fed_whole().min(bytes.len()));
        let Some(client) = self.node.client_mut(following.client) else { return };
        if std::mem::take(&mut client.session.owes_ack) {
            let end = following.dispatched + (following.unmarked.len() + bytes.len()) as u64;
            following.owe(end);
            following.asked_ms = heard_ms;
        }
        if whole.is_empty() {
            return following.unmarked.extend_from_slice(begun);
        }
        let mut forwarded = std::mem::replace(&mut following.unmarked, begun.to_vec());
        forwarded.extend_from_slice(whole);
        state.stream_db = client.session.db_after.unwrap_or(client.session.db);
        following.dispatched += forwarded.len() as u64;
        following.marks.push_back((client.replies.progress().0, following.dispatched));
        if heard_ms - following.asked_ms < EAGER_MS && following.owed.is_none() {
            following.owe(following.dispatched);
        }
        state.forward(Bytes::from(forwarded));
    }

    /// Looks how far the stream has run, what failed of it, and whether the primary is to be told.
    pub(super) fn follow_stream(&mut self) {
        let Some(state) = &mut self.replication else { return };
        let Some(following) = state.following.as_mut().filter(|one| one.is_streaming()) else {
            return;
        };
        let Some(client) = self.node.client_mut(following.client) else { return };
        let at = following.at as usize;
        match client.session.close {
            Close::No => {}
            Close::AfterReplies => return self.lose_link("its stream cannot be understood"),
            Close::Now => return self.lose_link("it was closed here"),
        }
        let (_, kept) = client.replies.progress();
        while let Some((promise, offset)) = following.marks.front()
            && promise.wrapping_sub(kept) as i32 <= 0
        {
            following.applied = *offset;
            following.marks.pop_front();
        }
        let progress = &self.instance.replication().progress;
        progress.offset.store(following.applied, Ordering::Relaxed);
        progress
            .received
            .store(following.dispatched + self.connections[at].waiting() as u64, Ordering::Relaxed);
        // What is not being sent is what has failed.
        if !client.replies.out.is_empty() && !self.connections[at].is_sending {
            let failed = String::from_utf8_lossy(client.replies.out.bytes()).into_owned();
            client.replies.out.clear();
            let count = failed.matches("\r\n-").count() as u64 + 1;
            let first = failed.lines().next().unwrap_or_default().to_owned();
            let also = match failed.contains("-EXECABORT") {
                true => ". Their transaction has been dropped as a whole",
                false => "",
            };
            tracing::warn!(
                "{count} commands of the primary's stream have failed here: {first}{also}"
            );
            self.instance.tell_replication(|state| state.failed_commands += count);
        }
        if self.following().is_some_and(Following::take_owed) {
            self.acknowledge();
        }
    }

    /// Tells the primary how far this server is.
    pub(super) fn acknowledge(&mut self) {
        let Some(following) = self.following().filter(|one| one.is_streaming()) else { return };
        let (applied, at, client) = (following.applied, following.at, following.client);
        if self.connections[at as usize].is_sending {
            if let Some(following) = self.following() {
                following.owe(applied);
            }
            return;
        }
        let mut said = Vec::new();
        link::acknowledge(&mut said, applied);
        if let Some(client) = self.node.client_mut(client) {
            client.replies.out.extend(&said);
        }
        self.send(client);
    }

    /// What is due once a second: an acknowledgement, or a sign of life, or an end of patience.
    pub(super) fn attend_to_primary(&mut self) {
        let (now_ms, config) = (now_ms(&self.node), self.instance.config());
        let silent_ms =
            now_ms - self.instance.replication().progress.heard_ms.load(Ordering::Relaxed);
        let patience_ms = i64::from(config.repl_timeout()) * 1000;
        let Some(following) = self.following() else { return };
        let is_silent = silent_ms > patience_ms;
        match &following.stage {
            Stage::Waiting(_) | Stage::Connecting => {}
            Stage::Emptying(_) | Stage::Loading(_) | Stage::Taking => self.newline_to_primary(),
            Stage::Talking if is_silent => self.lose_link("Timeout connecting to the MASTER..."),
            Stage::ToFile(_) if is_silent => {
                self.lose_link("Timeout receiving bulk data from MASTER...");
            }
            Stage::Streaming if is_silent => {
                self.lose_link("MASTER timeout: no data nor ping received...");
            }
            Stage::Streaming => self.acknowledge(),
            Stage::Talking | Stage::ToFile(_) => {}
        }
    }

    pub(super) fn newline_to_primary(&mut self) {
        let Some(following) = self.following() else { return };
        let (at, client) = (following.at, following.client);
        if at == u32::MAX || self.connections[at as usize].is_sending {
            return;
        }
        if let Some(client) = self.node.client_mut(client) {
            client.replies.out.extend(b"\n");
        }
        self.send(client);
    }

    /// A connection has been closed: if it was the link's, there will be another.
    pub(in super::super) fn link_closed(&mut self, at: u32) {
        let Some(following) = self.following().filter(|following| following.at == at) else {
            return;
        };
        following.at = u32::MAX;
        self.lose_link("the connection was closed");
    }
}
