//! COMMAND DOCS: the syntax line as a tree of arguments, in the form that Redis gives it.
//!
//! What a line does not name has a name all the same, after what it holds: repeated blocks are
//! `data`, a choice of NX and XX is a `condition`, one of times an `expiration`, what follows a
//! token is called like it, and anything else has the names of its parts, if they are few.

use super::{key_specs, named};
use crate::command::{Command, Effect, Outcome, Run, all, subcommands};
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

/// One argument of a command's syntax.
#[derive(Debug, Default, PartialEq, Eq)]
struct Argument {
    name: String,
    kind: Kind,
    /// The word in front of it, or that it is.
    token: Option<String>,
    optional: bool,
    multiple: bool,
    /// The token is repeated with it.
    multiple_token: bool,
    parts: Vec<Argument>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Kind {
    /// A type with a name of its own.
    #[default]
    String,
    Key,
    Integer,
    Double,
    UnixTime,
    Pattern,
    PureToken,
    /// One of its parts.
    OneOf,
    /// All of its parts, in order.
    Block,
}

/// COMMAND DOCS.
pub fn docs(_: &mut Session, _: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    let commands: Vec<&Command> = if args.is_empty() {
        all().iter().filter(|command| command.name_words() == 1).collect()
    } else {
        args.iter().filter_map(named).collect()
    };
    reply.map(commands.len());
    commands.into_iter().for_each(|command| describe(command, reply));
    Ok(Effect::Read)
}

/// A command's name and its documentation.
fn describe(command: &Command, reply: &mut Reply) {
    // A container's own line only says that there is a subcommand.
    let arguments =
        if let Run::Container = command.run { Vec::new() } else { arguments(command.usage) };
    let subs = subcommands(command).count();
    reply.bulk(command.full_name().as_bytes());
    reply.map(4 + usize::from(!arguments.is_empty()) + usize::from(subs > 0));
    for (name, value) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group),
        ("complexity", command.complexity),
    ] {
        pair(name, value, reply);
    }
    if !arguments.is_empty() {
        let specs = key_specs(command).len();
        reply.bulk(b"arguments");
        describe_all(&arguments, specs, &mut 0, reply);
    }
    if subs > 0 {
        reply.bulk(b"subcommands");
        reply.map(subs);
        subcommands(command).for_each(|sub| describe(sub, reply));
    }
}

/// Arguments; `keys` counts the keys among them, which belong to `specs` groups in that order.
fn describe_all(arguments: &[Argument], specs: usize, keys: &mut usize, reply: &mut Reply) {
    reply.array(arguments.len());
    for argument in arguments {
        let composed = argument.is_composed();
        let is_key = argument.kind == Kind::Key;
        let flags = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ];
        let flags: Vec<&str> = flags.into_iter().filter(|(on, _)| *on).map(|(_, f)| f).collect();
        let fields =
            [true, true, !composed, is_key, argument.token.is_some(), !flags.is_empty(), composed];
        reply.map(fields.into_iter().filter(|on| *on).count());
        pair("name", &argument.name, reply);
        pair("type", argument.kind.name(), reply);
        if !composed {
            pair("display_text", &argument.name, reply);
        }
        if is_key {
            reply.bulk(b"key_spec_index");
            reply.integer((*keys).min(specs.saturating_sub(1)) as i64);
            *keys += 1;
        }
        if let Some(token) = &argument.token {
            pair("token", token, reply);
        }
        if !flags.is_empty() {
            reply.bulk(b"flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
        }
        if composed {
            reply.bulk(b"arguments");
            describe_all(&argument.parts, specs, keys, reply);
        }
    }
}

fn pair(name: &str, value: &str, reply: &mut Reply) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

impl Argument {
    fn is_composed(&self) -> bool {
        matches!(self.kind, Kind::OneOf | Kind::Block)
    }
}

impl Kind {
    fn of(name: &str) -> Kind {
        match name {
            "key" => Kind::Key,
            "integer" => Kind::Integer,
            "double" => Kind::Double,
            "unix-time" => Kind::UnixTime,
            "pattern" => Kind::Pattern,
            _ => Kind::String,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Key => "key",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::UnixTime => "unix-time",
            Kind::Pattern => "pattern",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }
}

/// The arguments that a syntax line describes; see [`crate::command::usage`] for its grammar.
fn arguments(usage: &str) -> Vec<Argument> {
    let mut rest = usage;
    match branches(&mut rest).as_mut_slice() {
        [one] => std::mem::take(one),
        // A line that is a choice as a whole.
        several => vec![choice(several)],
    }
}

/// What stands between bars, up to a closing bracket or the end.
fn branches(rest: &mut &str) -> Vec<Vec<Argument>> {
    let mut all = vec![Vec::new()];
    let mut items = Vec::new();
    loop {
        *rest = rest.trim_start();
        match rest.chars().next() {
            None | Some(')' | ']') => break,
            Some('|') => {
                *rest = &rest[1..];
                *all.last_mut().expect("never empty") = attach_tokens(std::mem::take(&mut items));
                all.push(Vec::new());
            }
            Some(_) => items.push(item(rest)),
        }
    }
    *all.last_mut().expect("never empty") = attach_tokens(items);
    all
}

/// One word, group or option, with its dots.
fn item(rest: &mut &str) -> Argument {
    let mut argument = match rest.as_bytes()[0] {
        open @ (b'(' | b'[') => {
            *rest = &rest[1..];
            let mut branches = branches(rest);
            // The closing bracket: a line without it does not compile.
            *rest = &rest[1..];
            let mut argument = match branches.as_mut_slice() {
                [one] if one.len() == 1 => one.remove(0),
                [one] => block(std::mem::take(one)),
                several => choice(several),
            };
            argument.optional |= open == b'[';
            argument
        }
        _ => {
            let end = rest.find([' ', ')', ']', '.']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            *rest = after;
            self::word(word)
        }
    };
    if let Some(after) = rest.strip_prefix("...") {
        *rest = after;
        argument.multiple = true;
        // A token inside of what is repeated is repeated, too.
        argument.multiple_token = argument.token.is_some() && argument.kind != Kind::PureToken;
        if argument.kind == Kind::Block && argument.token.is_none() {
            argument.name = "data".to_owned();
        }
    }
    argument
}

fn word(word: &str) -> Argument {
    if !word.bytes().any(|byte| byte.is_ascii_lowercase()) {
        let name = word.to_ascii_lowercase();
        return Argument {
            name,
            kind: Kind::PureToken,
            token: Some(word.to_owned()),
            ..Argument::default()
        };
    }
    let (name, kind) = word.split_once(':').unwrap_or((word, word));
    Argument { name: name.to_owned(), kind: Kind::of(kind), ..Argument::default() }
}

/// Gives each token to the arguments that follow it and cannot be absent: to one directly, to
/// several as a block.
fn attach_tokens(items: Vec<Argument>) -> Vec<Argument> {
    let mut all = Vec::new();
    let mut items = items.into_iter().peekable();
    while let Some(mut item) = items.next() {
        let is_token = item.kind == Kind::PureToken && !item.optional && !item.multiple;
        let mut follow = Vec::new();
        while is_token
            && let Some(next) = items.next_if(|next| next.token.is_none() && !next.optional)
        {
            follow.push(next);
        }
        if follow.len() == 1 {
            let name = item.name;
            item = Argument { token: item.token, ..follow.remove(0) };
            if item.is_composed() {
                item.name = name;
            }
        } else if follow.len() > 1 {
            item.kind = Kind::Block;
            item.parts = follow;
        }
        all.push(item);
    }
    all
}

fn block(parts: Vec<Argument>) -> Argument {
    Argument { name: joined(&parts), kind: Kind::Block, parts, ..Argument::default() }
}

fn choice(branches: &mut [Vec<Argument>]) -> Argument {
    let parts: Vec<Argument> = branches
        .iter_mut()
        .map(
            |branch| {
                if branch.len() == 1 { branch.remove(0) } else { block(std::mem::take(branch)) }
            },
        )
        .collect();
    let has = |token: &str| parts.iter().any(|part| part.token.as_deref() == Some(token));
    let name = match () {
        () if has("NX") || has("XX") => "condition".to_owned(),
        () if has("EX") || has("PX") => "expiration".to_owned(),
        () if has("ON") && parts.len() == 2 => "enabled".to_owned(),
        () => joined(&parts),
    };
    Argument { name, kind: Kind::OneOf, parts, ..Argument::default() }
}

fn joined(parts: &[Argument]) -> String {
    /// A name made of more says less.
    const PARTS_MAX: usize = 3;
    if parts.len() > PARTS_MAX {
        return "options".to_owned();
    }
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    names.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line: name, type, then what else there is to say.
    fn shown(arguments: &[Argument]) -> String {
        let one = |argument: &Argument| {
            let mut text = format!("{}:{}", argument.name, argument.kind.name());
            if let Some(token) = &argument.token {
                text += &format!("={token}");
            }
            for (on, mark) in
                [(argument.optional, "?"), (argument.multiple, "*"), (argument.multiple_token, "+")]
            {
                if on {
                    text += mark;
                }
            }
            if argument.is_composed() {
                text += &format!("({})", shown(&argument.parts));
            }
            text
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn syntax_lines_become_trees() {
        for (usage, tree) in [
            ("", ""),
            ("key", "key:key"),
            ("source:key newkey:key", "source:key newkey:key"),
            ("key...", "key:key*"),
            ("[message]", "message:string?"),
            ("(key value)...", "data:block*(key:key value:string)"),
            ("[FREQ] [IDX]", "freq:pure-token=FREQ? idx:pure-token=IDX?"),
            ("[MATCH pattern:pattern]", "pattern:pattern=MATCH?"),
            ("[WEIGHTS weight:integer...]", "weight:integer=WEIGHTS?*"),
            ("[(PREFIX prefix)...]", "prefix:string=PREFIX?*+"),
            ("[GET pattern:pattern]...", "pattern:pattern=GET?*+"),
            (
                "[LIMIT offset:integer count:integer]",
                "limit:block=LIMIT?(offset:integer count:integer)",
            ),
            (
                "[NX | XX] [EX seconds:integer | KEEPTTL]",
                "condition:oneof?(nx:pure-token=NX xx:pure-token=XX) \
                 expiration:oneof?(seconds:integer=EX keepttl:pure-token=KEEPTTL)",
            ),
            (
                "[FILTERBY (MODULE name | PATTERN pattern:pattern)]",
                "filterby:oneof=FILTERBY?(name:string=MODULE pattern:pattern=PATTERN)",
            ),
            (
                "[protover:integer [AUTH (username password)] [SETNAME clientname]]",
                "protover-auth-clientname:block?(protover:integer \
                 auth:block=AUTH?(username:string password:string) clientname:string=SETNAME?)",
            ),
            ("NOW | ABORT", "now-abort:oneof(now:pure-token=NOW abort:pure-token=ABORT)"),
            (
                "key (ROW row | BOX width:double height:double)",
                "key:key row-box:oneof(row:string=ROW box:block=BOX(width:double height:double))",
            ),
        ] {
            assert_eq!(shown(&arguments(usage)), tree, "{usage}");
        }
    }

    #[test]
    fn every_syntax_line_is_read_to_its_end() {
        for command in all() {
            let tree = shown(&arguments(command.usage));
            let words = |text: &str| {
                let letters = |c: char| !c.is_ascii_alphanumeric() && c != '-';
                text.split(letters).filter(|word| !word.is_empty()).count()
            };
            assert!(words(&tree) >= words(command.usage) / 2, "{}: {tree}", command.name);
            assert!(!tree.contains("::"), "{}: {tree}", command.name);
        }
    }

    #[test]
    fn a_commands_documentation() {
        let mut out = crate::resp::ReplyBuf::default();
        let rename = Command::new("RENAME", Run::Container).summary("S.").complexity("O(1)");
        describe(&rename, &mut Reply::new(&mut out, true));
        assert_eq!(
            out.bytes(),
            b"$6\r\nrename\r\n%4\r\n$7\r\nsummary\r\n$2\r\nS.\r\n$5\r\nsince\r\n$5\r\n1.0.0\r\n\
              $5\r\ngroup\r\n$0\r\n\r\n$10\r\ncomplexity\r\n$4\r\nO(1)\r\n"
        );
        // Keys belong to the groups that COMMAND INFO shows.
        let mut out = crate::resp::ReplyBuf::default();
        let mut reply = Reply::new(&mut out, false);
        describe_all(&arguments("a:key b:key c:key"), 2, &mut 0, &mut reply);
        let text = String::from_utf8_lossy(out.bytes());
        let places: Vec<&str> = text.split("key_spec_index\r\n").skip(1).map(|t| &t[..2]).collect();
        assert_eq!(places, [":0", ":1", ":1"]);
    }
}
