//! A shard that serves nobody for a while, by means that any user has: a transaction of many slow commands, which runs
//! as a whole.

use super::{Client, Server, ok, queued};
use std::time::{Duration, Instant};

/// A stall under way.
pub struct Stall {
    /// The shard that stalls.
    pub shard: usize,
    client: Client,
    commands: usize,
}

impl Stall {
    /// Keeps one shard busy for at least about so long.
    pub fn begin(server: &Server, shards: usize, lasting: Duration) -> Stall {
        let mut client = server.client();
        let long =
            |byte: u8| -> Vec<u8> { (0..11_000u32).map(|i| byte + (i * i % 23) as u8).collect() };
        // All of it on one shard; of two or more, not the first, which accepts.
        let tag = tag_on(shards - 1, shards);
        let (a, b) = (format!("{{{tag}}}a"), format!("{{{tag}}}b"));
        assert_eq!(client.cmd_bytes(&[b"SET", a.as_bytes(), &long(b'a')]), ok());
        assert_eq!(client.cmd_bytes(&[b"SET", b.as_bytes(), &long(b'c')]), ok());
        let began = Instant::now();
        const TRIAL: u32 = 5;
        for _ in 0..TRIAL {
            client.cmd(&["LCS", &a, &b, "LEN"]);
        }
        let each = began.elapsed() / TRIAL;
        let commands = (lasting.as_secs_f64() / each.as_secs_f64()).ceil() as usize;
        assert_eq!(client.cmd(&["MULTI"]), ok());
        for _ in 0..commands {
            assert_eq!(client.cmd(&["LCS", &a, &b, "LEN"]), queued());
        }
        client.send("EXEC");
        Stall { shard: shards - 1, client, commands }
    }

    /// Whether the shard turns again.
    pub fn is_over(&self) -> bool {
        self.client.tcp().set_nonblocking(true).expect("look without waiting");
        let over = self.client.tcp().peek(&mut [0]).is_ok();
        self.client.tcp().set_nonblocking(false).expect("wait again");
        over
    }

    /// Waits for its end.
    pub fn end(mut self) {
        assert_eq!(self.client.read_reply().items().len(), self.commands);
    }
}

/// A hash tag that a shard owns.
fn tag_on(shard: usize, shards: usize) -> String {
    let mut tags = (0..).map(|i| format!("tag:{i}"));
    let owner = |tag: &String| {
        let slot = redshard::base::slot::slot_of(tag.as_bytes());
        usize::from(redshard::base::slot::shard_of(slot, shards as u16))
    };
    tags.find(|tag| owner(tag) == shard).expect("every shard owns some")
}
