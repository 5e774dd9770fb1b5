//! What INFO is made of: names with values. Its text is one way to show them, Prometheus's format
//! ([`crate::exposition`]) another; neither is made from the other.

use std::borrow::Cow;
use std::fmt;

/// One line of INFO.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name, or what all names of its kind begin with.
    pub name: &'static str,
    /// What it is about, where there is a line of its kind for each: `get` in `cmdstat_get`.
    pub of: Option<String>,
    /// What it says.
    pub value: Value,
}

/// What a field says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number that is never negative. Counters are, and keep all their 64 bits.
    Unsigned(u64),
    /// A number.
    Signed(i64),
    /// A number with decimals, and how many of them INFO shows.
    Decimal(f64, usize),
    /// Anything else.
    Text(Cow<'static, str>),
    /// Several values, each with a name.
    List(Vec<(Cow<'static, str>, Value)>),
}

impl Field {
    /// A field of which there is one.
    pub fn new(name: &'static str, value: impl Into<Value>) -> Field {
        Field { name, of: None, value: value.into() }
    }

    /// One of several fields of a kind.
    pub fn about(name: &'static str, of: impl fmt::Display, value: impl Into<Value>) -> Field {
        Field { name, of: Some(of.to_string()), value: value.into() }
    }
}

/// As INFO shows it, without the line's end.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.name, self.of.as_deref().unwrap_or(""), self.value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(n) => write!(f, "{n}"),
            Value::Signed(n) => write!(f, "{n}"),
            Value::Decimal(n, places) => write!(f, "{n:.places$}"),
            Value::Text(text) => f.write_str(text),
            Value::List(list) => list.iter().enumerate().try_for_each(|(at, (name, value))| {
                write!(f, "{}{name}={value}", if at > 0 { "," } else { "" })
            }),
        }
    }
}

/// `From` for what a getter may return.
macro_rules! values {
    ($($kind:ty => $variant:ident,)*) => {
        $(impl From<$kind> for Value {
            fn from(value: $kind) -> Value {
                Value::$variant(value.into())
            }
        })*
    };
}

values! {
    u16 => Unsigned,
    u32 => Unsigned,
    u64 => Unsigned,
    i32 => Signed,
    i64 => Signed,
    &'static str => Text,
    String => Text,
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Unsigned(value as u64)
    }
}

/// Appends fields with a name each: `"name" = value;`.
macro_rules! fields {
    ($out:ident: $($name:literal = $value:expr;)*) => {
        $($out.push($crate::command::info::field::Field::new($name, $value));)*
    };
}

/// A list of values with a name each: `name = value,`.
macro_rules! list {
    ($($name:literal = $value:expr,)*) => {
        $crate::command::info::field::Value::List(vec![$(($name.into(), $value.into()),)*])
    };
}

pub(super) use fields;
pub(crate) use list;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lines() {
        let shown = |field: Field| field.to_string();
        assert_eq!(shown(Field::new("used_memory", u64::MAX)), "used_memory:18446744073709551615");
        assert_eq!(shown(Field::new("second_repl_offset", -1)), "second_repl_offset:-1");
        assert_eq!(shown(Field::new("ratio", Value::Decimal(1.005, 2))), "ratio:1.00");
        let list = list! { "keys" = 7u64, "share" = Value::Decimal(0.5, 3), };
        assert_eq!(shown(Field::about("db", 3, list)), "db3:keys=7,share=0.500");
    }
}
