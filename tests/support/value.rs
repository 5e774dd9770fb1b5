//! A reply, with nothing of the wire's types lost, and short names to write expected ones down.

use std::fmt;

/// One RESP2 or RESP3 reply.
#[derive(Clone, PartialEq)]
pub enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// RESP2's `$-1`.
    NilBulk,
    /// RESP2's `*-1`.
    NilArray,
    /// RESP3's `_`.
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    Push(Vec<Value>),
    /// Kept as sent: the digits are part of what is tested.
    Double(String),
    Bool(bool),
    BigNumber(String),
    BlobError(Vec<u8>),
    Verbatim(String, Vec<u8>),
}

impl Value {
    /// The text of a simple or bulk string.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Value::Simple(text) => text.clone(),
            Value::Bulk(bytes) | Value::Verbatim(_, bytes) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            other => panic!("expected a string, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(bytes) => bytes,
            other => panic!("expected a bulk string, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Value::Int(number) => *number,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    /// The elements of an array, set or push.
    #[track_caller]
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }

    /// The elements' texts, sorted, for replies whose order is the server's business.
    #[track_caller]
    pub fn sorted_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.items().iter().map(Value::text).collect();
        texts.sort();
        texts
    }

    /// A map's value by its key; RESP2's flat arrays are read as maps too.
    #[track_caller]
    pub fn field(&self, name: &str) -> &Value {
        let found = match self {
            Value::Map(pairs) => {
                pairs.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value)
            }
            Value::Array(items) => {
                items.chunks(2).find(|pair| pair[0].text() == name).map(|pair| &pair[1])
            }
            other => panic!("expected a map, got {other:?}"),
        };
        found.unwrap_or_else(|| panic!("no field {name} in {self:?}"))
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Value::Error(_) | Value::BlobError(_))
    }

    /// The text of an error reply.
    #[track_caller]
    pub fn error_text(&self) -> &str {
        match self {
            Value::Error(text) => text,
            other => panic!("expected an error, got {other:?}"),
        }
    }
}

/// Close to what redis-cli prints, and cut where a value is too long to be read in a failure message.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn shorten(bytes: &[u8]) -> String {
            const SHOWN: usize = 200;
            match bytes.len() {
                0..=SHOWN => format!("\"{}\"", bytes.escape_ascii()),
                length => format!("\"{}\"… ({length} bytes)", bytes[..SHOWN].escape_ascii()),
            }
        }
        match self {
            Value::Simple(text) => write!(f, "+{text}"),
            Value::Error(text) => write!(f, "-{text}"),
            Value::Int(number) => write!(f, ":{number}"),
            Value::Bulk(bytes) => f.write_str(&shorten(bytes)),
            Value::NilBulk => f.write_str("$-1"),
            Value::NilArray => f.write_str("*-1"),
            Value::Null => f.write_str("_"),
            Value::Array(items) => f.debug_list().entries(items).finish(),
            Value::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(k, v)| (k, v))).finish(),
            Value::Set(items) => f.debug_set().entries(items).finish(),
            Value::Push(items) => {
                f.write_str(">")?;
                f.debug_list().entries(items).finish()
            }
            Value::Double(text) => write!(f, ",{text}"),
            Value::Bool(value) => write!(f, "#{value}"),
            Value::BigNumber(text) => write!(f, "({text}"),
            Value::BlobError(bytes) => write!(f, "!{}", shorten(bytes)),
            Value::Verbatim(kind, bytes) => write!(f, "={kind}:{}", shorten(bytes)),
        }
    }
}

pub fn ok() -> Value {
    simple("OK")
}

pub fn queued() -> Value {
    simple("QUEUED")
}

pub fn simple(text: &str) -> Value {
    Value::Simple(text.into())
}

pub fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bulk(bytes.as_ref().to_vec())
}

pub fn int(number: i64) -> Value {
    Value::Int(number)
}

pub fn nil() -> Value {
    Value::NilBulk
}

pub fn nil_array() -> Value {
    Value::NilArray
}

pub fn error(text: &str) -> Value {
    Value::Error(text.into())
}

pub fn array<const N: usize>(items: [Value; N]) -> Value {
    Value::Array(items.into())
}

/// An array of bulk strings.
pub fn bulks(items: &[&str]) -> Value {
    Value::Array(items.iter().map(bulk).collect())
}

/// The reply to a command called with too few or too many arguments.
pub fn wrong_arity(command: &str) -> Value {
    error(&format!("ERR wrong number of arguments for '{command}' command"))
}

pub fn syntax_error() -> Value {
    error("ERR syntax error")
}

pub fn not_an_integer() -> Value {
    error("ERR value is not an integer or out of range")
}
