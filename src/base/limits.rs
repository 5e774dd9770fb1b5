//! Every limit has a name here, with its reason and, where limits add up, the sum.

/// Databases a server has unless `databases` says otherwise.
pub const DATABASES: usize = 16;

/// Most databases: a descriptor names its database in one `u16`, and an empty table is not free.
pub const DATABASES_MAX: usize = 16_384;

/// Most shards: one per cluster slot would be 16,384; a mailbox per pair makes 1,024 generous.
pub const SHARDS_MAX: usize = 1_024;

/// Longest inline command, and longest line that may announce a length (Redis: 64 KiB).
pub const INLINE_MAX: usize = 64 * 1024;

/// Most arguments of one command (Redis: `INT_MAX`; ours is what the descriptors can count, and a
/// query buffer of 1 GiB cannot hold more).
pub const ARGUMENTS_MAX: i64 = i32::MAX as i64;

/// Arguments and bulk bytes an unauthenticated client may announce (Redis's figures).
pub const UNAUTHENTICATED_ARGUMENTS_MAX: i64 = 10;
/// See [`UNAUTHENTICATED_ARGUMENTS_MAX`].
pub const UNAUTHENTICATED_BULK_MAX: i64 = 16_384;

/// Longest bulk unless `proto-max-bulk-len` says otherwise.
pub const BULK_MAX: i64 = 512 * 1024 * 1024;

/// What `proto-max-bulk-len` may say at most: spans count 32 bits.
pub const BULK_CEILING: u64 = 1 << 31;

/// Largest query buffer of one client unless `client-query-buffer-limit` says otherwise.
pub const QUERY_BUFFER_MAX: usize = 1024 * 1024 * 1024;

/// A string at most this long lives in its key's block; a longer one has an allocation of its own,
/// which a reply can reference instead of copying. 16 KiB is where `memcpy` of the value begins to
/// cost more than a second cache miss and an iovec.
pub const INLINE_VALUE_MAX: usize = ATTACH_MIN - 1;

/// Bytes of a listpack beyond which it does not grow (Redis's figure): its header counts in 32 bits, and
/// nothing should come near that.
pub const LISTPACK_BYTES_MAX: usize = 1 << 30;

/// Integers of an intset beyond which it does not grow (Redis's figure), for the same reason.
pub const INTSET_ENTRIES_MAX: usize = 1 << 30;

/// A reply body at least this long is attached by reference instead of copied into the buffer.
pub const ATTACH_MIN: usize = 16 * 1024;

/// Unsent reply bytes of one client beyond which its input is not executed further until it reads.
pub const OUTPUT_PAUSE: usize = 256 * 1024;

/// Promised replies of one client beyond which it is not executed further: how large they will be
/// nobody knows, each at most what is not attached but copied.
pub const PROMISES_MAX: usize = 8_192;

/// Reply bytes of one client that wait for those that other shards are about to answer, so that one
/// send takes them all.
pub const GATHER_BYTES: usize = 16 * 1024;

/// Clients with messages that they are sent in one turn: a message to thousands is more sends than a turn
/// should last (1 to 3 us each), and what is published meanwhile goes out with the same send.
pub const PUSHES_PER_TURN: usize = 256;

/// Bytes of messages to one shard's clients, over all of them, that have not been handed over to be sent
/// from where on who publishes waits. Twice that, and all is sent at once: keys' events can be put off by
/// nobody.
pub const PUSH_BACKLOG: u64 = 16 * 1024 * 1024;

/// Commands of one client that run before its neighbours get their turn again.
pub const COMMANDS_PER_FEED: usize = 4_096;

/// Time of a turn that clients' input may take, in microseconds, counted from the turn's beginning:
/// what is left is the next turn's. A turn is how long another shard, a background task or a client
/// that has just spoken waits for this shard at most, if no single command takes longer. 50 deep
/// pipelines were turns of 40 ms without it.
pub const TURN_BUDGET_US: u64 = 500;

/// What clients' input has of that at least, in microseconds: other shards' mail, which runs first
/// and has a bound of its own, must not starve it.
pub const TURN_BUDGET_LEAST_US: u64 = 100;

/// Most unprocessed input of one client, whatever `client-query-buffer-limit` says: spans count 32
/// bits, and a received piece may come on top before anybody looks.
pub const QUERY_BUFFER_CEILING: u64 = (1 << 32) - (1 << 20);

/// Argument bytes in a batch from which on its sender runs no client any further this turn. A batch
/// exceeds it by one command at most, so that its spans can count in 32 bits.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// The same as a number of commands: their replies, each up to [`INLINE_VALUE_MAX`], are made on
/// another shard, where nobody can see yet that their client does not read.
///
/// The simulator's few clients have to come across it too.
pub const BATCH_ITEMS: usize = if cfg!(test) { 3 } else { 8_192 };

/// Batches in flight from one shard to another before the sender spills to a list of its own.
pub const MAILBOX_BATCHES: usize = 256;

/// Bytes that a shard journals in a turn from which on no client of it goes on in that turn. One command
/// may journal more, and so may other shards' mail, which has bounds of its own.
pub const JOURNAL_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of the stream for replicas that wait to be put in order (for a transaction that is under way, or
/// the cut of a snapshot) from which on no client goes on, on any shard. What is in order is in the backlog
/// and has that one's bound. In all: these, and for each shard a turn's [`JOURNAL_BYTES`] for each of
/// [`MAILBOX_BATCHES`] at most, of which two or three are in use.
pub const STREAM_HELD_BYTES: u64 = 64 * 1024 * 1024;

/// Time between two ticks of a shard's loop, in milliseconds.
pub const TICK_MS: u32 = 10;

/// Keys that one housekeeping slice may free, split or expire before it looks at the clock.
pub const HOUSEKEEPING_STEP: usize = 256;

/// Time one housekeeping slice may take, in microseconds: well below the 1 ms a client may notice.
pub const HOUSEKEEPING_SLICE_US: u64 = 400;

/// Time that a server that stops gives what is under way, and again what is being written in the
/// background, in milliseconds. Both take far less unless a shard is held up.
pub const STOP_PHASE_MS: u64 = 10_000;

/// Time that it gives clients to take their replies, in milliseconds.
pub const STOP_FLUSH_MS: u64 = 2_000;

/// Connections that the admin port serves at a time; where there are more, the oldest goes.
pub const ADMIN_CONNECTIONS: usize = 32;

/// Bytes that a request to the admin port may have.
pub const ADMIN_REQUEST_BYTES: usize = 8 * 1024;

/// Milliseconds that a request to the admin port may take, from its first byte to the last of its
/// response.
pub const ADMIN_REQUEST_MS: u64 = 5_000;

/// Points of the page's charts that the server keeps, and the milliseconds from one to the next: five
/// minutes. A point takes 72 bytes and 2 per shard, so all of them 22 KiB with two shards and 630 KiB
/// with 1,024.
pub const HISTORY_POINTS: usize = 300;
/// See [`HISTORY_POINTS`].
pub const HISTORY_STEP_MS: u64 = 1_000;

/// Least that `maxmemory-clients` can mean, in bytes (Redis's figure).
pub const CLIENT_MEMORY_MIN: u64 = 128 * 1024;

/// Unsent reply bytes of a client that has never authenticated: what Redis's fixed buffer holds, and
/// the 1 KiB it allows beyond.
pub const UNAUTHENTICATED_OUTPUT_MAX: usize = 16 * 1024 + 1024;

/// Time without a word from a client after which memory that only waits for its input is given
/// back, in milliseconds.
pub const IDLE_INPUT_MS: i64 = 2_000;

/// Longest host name that a replica may say it is reached by (Redis's figure), in bytes.
pub const HOST_BYTES: usize = 256;
