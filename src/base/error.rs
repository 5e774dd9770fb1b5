//! Every error a client can be told, in one place. Handlers return values; the text is made at the
//! edge, when the reply is written.

use std::borrow::Cow;

/// What went wrong with a command. The texts are Redis's, word for word: clients match on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key holds a value of another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// An argument is not an integer, or outside 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// An argument is not a number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// An increment or decrement left 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The options do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// RENAME and its like need their source.
    #[error("ERR no such key")]
    NoSuchKey,
    /// Source and destination are the same key.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// An offset is outside what a string can hold.
    #[error("ERR offset is out of range")]
    OffsetOutOfRange,
    /// A string would grow past `proto-max-bulk-len`.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// An expiry time is zero, negative where it may not be, or overflows.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// A database index is not one of ours.
    #[error("ERR DB index is out of range")]
    DbOutOfRange,
    /// A cursor is not a number.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// A number that has to be positive, or in some range, is not.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// Memory is over `maxmemory` and the policy frees none.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// The last snapshot failed, and `stop-writes-on-bgsave-error` says what that means.
    #[error(
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
         disk. Commands that may modify the data set are disabled, because this instance is \
         configured to report errors during writes if RDB snapshotting fails \
         (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the \
         RDB error."
    )]
    MisConf,
    /// Too few replicas follow, and `min-replicas-to-write` says what that means.
    #[error("NOREPLICAS Not enough good replicas to write.")]
    NoReplicas,
    /// The server follows another, and `replica-read-only` says what that means.
    #[error("READONLY You can't write against a read only replica.")]
    ReadOnly,
    /// The server follows another and does not hear from it, and `replica-serve-stale-data` says what
    /// that means.
    #[error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")]
    MasterDown,
    /// The client has not authenticated.
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    /// Data is being loaded, and the command needs it whole.
    #[error("LOADING Redis is loading the dataset in memory")]
    Loading,
    /// EXEC after an error while queueing.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    ExecAbort,
    /// Any other text, code first.
    #[error("{0}")]
    Text(Cow<'static, str>),
}

impl Error {
    /// An error with a fixed text of its own; it begins with its code.
    pub const fn text(text: &'static str) -> Error {
        Error::Text(Cow::Borrowed(text))
    }

    /// An error whose text is made for the occasion; it begins with its code.
    pub fn owned(text: String) -> Error {
        Error::Text(Cow::Owned(text))
    }
}
