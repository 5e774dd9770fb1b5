//! Runs one command, or one part of one, on this shard's data. Whoever calls has made sure that no
//! lock stands in the way.

use super::rules::{Rule, broken};
use crate::base::doing;
use crate::base::error::Error;
use crate::command::{Across, Command, Effect, Gather, Handler, Outcome, Run, flag};
use crate::metrics::error_code;
use crate::resp::{Args, Reply, ReplyBuf};
use crate::shard::Shard;
use crate::shard::caller::Caller;
use crate::shard::journal::Scope;
use crate::shard::locks::{self, Mode, Wants};
use smallvec::SmallVec;

/// A command with its circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Which.
    pub command: &'static Command,
    /// Its arguments.
    pub args: Args<'a>,
    /// For whom.
    pub caller: Caller,
}

/// A part of a command over several shards.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The whole command: this shard owns all it needs.
    Whole,
    /// A handler with the arguments that belong to this part.
    Part(Handler),
    /// The reading half of an [`Across`], for one of its keys.
    Read(&'static Across, usize),
}

/// Whether a command (not) did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It replied.
    Fine,
    /// It replied with an error, of this code ([`crate::metrics::error_code`]).
    Failed(u8),
}

/// Runs a command that is part of no transaction, and whose keys are all here, and writes its reply.
#[inline]
pub fn run_by_itself(shard: &mut Shard, job: &Job, out: &mut ReplyBuf) -> Ran {
    shard.journal().begin(scope_of(job.command));
    run_whole(shard, job, out)
}

/// What the effects of a command that is part of no transaction belong to. Keys that one comes across that
/// reads whatever there is expire each by itself.
#[inline]
pub fn scope_of(command: &Command) -> Scope {
    match command.run {
        Run::All(..) | Run::Cursor(_) if !command.is(flag::WRITES) => Scope::Loose,
        _ => Scope::Unit,
    }
}

/// Runs a whole command whose keys are all here, and writes its reply. Whoever calls has begun what
/// its effects belong to ([`Scope`]).
#[inline]
pub fn run_whole(shard: &mut Shard, job: &Job, out: &mut ReplyBuf) -> Ran {
    match job.command.run {
        Run::Owner(handler) | Run::Cursor(handler) => run_handler(shard, job, handler, out),
        Run::All(handler, gather) => run_alone(shard, job, handler, gather, out),
        Run::Each(handler, gather) => run_each(shard, job, handler, gather, out),
        Run::Across(across) => run_handler(shard, job, across.together, out),
        Run::Session(_)
        | Run::Pubsub(_)
        | Run::Sessions(..)
        | Run::Server(_)
        | Run::Control(_)
        | Run::Chosen(_)
        | Run::Container => {
            unreachable!("{} does not run on data", job.command.name)
        }
    }
}

/// Runs a part of a command, and writes its reply: RESP, or what the command's `finish` reads.
pub fn run_step(shard: &mut Shard, job: &Job, step: Step, out: &mut ReplyBuf) -> Ran {
    match step {
        Step::Whole => run_whole(shard, job, out),
        Step::Part(handler) => run_handler(shard, job, handler, out),
        Step::Read(across, key) => {
            doing::command(job.command.id);
            let (mark, before) = (out.mark(), shard.changes());
            let (mut db, mut reply) =
                (shard.db(job.caller.db()), Reply::new(out, job.caller.resp3));
            db.serve(job.caller);
            let outcome = (across.read)(&mut db, &job.args, key, &mut reply);
            debug_assert_eq!(before, shard.changes(), "{} reads first", job.command.name);
            conclude(outcome, out, mark, job.caller.resp3)
        }
    }
}

#[inline]
fn run_handler(shard: &mut Shard, job: &Job, handler: Handler, out: &mut ReplyBuf) -> Ran {
    doing::command(job.command.id);
    let (ran, has_written) = call(shard, job, handler, out);
    if has_written && shard.journal().is_on() {
        journal(shard, job);
    }
    ran
}

/// Runs a handler once: for a whole command, or for one of its keys. Says whether the command is still
/// to be journaled as it came.
#[inline]
fn call(shard: &mut Shard, job: &Job, handler: Handler, out: &mut ReplyBuf) -> (Ran, bool) {
    shard.journal().begin_command();
    let (mark, before) = (out.mark(), shard.changes());
    let mut db = shard.db(job.caller.db());
    db.serve(job.caller);
    let outcome = handler(&mut db, &job.args, &mut Reply::new(out, job.caller.resp3));
    debug_assert!(
        is_true(&outcome, before, shard.changes()),
        "{} says {outcome:?}, and has changed {} keys",
        job.command.name,
        shard.changes() - before
    );
    let has_written = outcome == Ok(Effect::Wrote);
    (conclude(outcome, out, mark, job.caller.resp3), has_written)
}

/// Whether a handler says what it did: a change that is not said is missing from the journal, one that
/// was none does not belong there, and who fails has done nothing.
fn is_true(outcome: &Outcome, before: u64, after: u64) -> bool {
    (*outcome == Ok(Effect::Wrote)) == (before != after)
}

/// Journals a command as it came, unless it has said what its effect is. What every shard does at one
/// moment (FLUSHALL) is said once, by the first: an even number of SWAPDBs would be none.
fn journal(shard: &mut Shard, job: &Job) {
    let is_others = matches!(job.command.run, Run::All(..)) && shard.number() != 0;
    if !is_others || broken(Rule::OneSpeaker) {
        let words = name_of(job.command).chain(job.args.iter());
        shard.journal().command(job.caller.db(), words);
    }
}

/// The words of its name: one, or two.
#[inline]
fn name_of<'a>(command: &'static Command) -> impl Iterator<Item = &'a [u8]> + Clone {
    let (first, second) = match command.name_words() {
        1 => (command.name, None),
        _ => command.name.split_once(' ').map_or((command.name, None), |(a, b)| (a, Some(b))),
    };
    std::iter::once(first).chain(second).map(str::as_bytes)
}

#[inline]
fn conclude(outcome: Outcome, out: &mut ReplyBuf, mark: usize, resp3: bool) -> Ran {
    match outcome {
        Ok(_) => Ran::Fine,
        Err(error) => fail(&error, out, mark, resp3),
    }
}

#[cold]
fn fail(error: &Error, out: &mut ReplyBuf, mark: usize, resp3: bool) -> Ran {
    out.rewind(mark);
    Reply::new(out, resp3).error(error);
    Ran::Failed(error_code(&out.bytes()[mark..]))
}

/// Runs a command of every shard where there is one shard only.
fn run_alone(
    shard: &mut Shard,
    job: &Job,
    handler: Handler,
    gather: Gather,
    out: &mut ReplyBuf,
) -> Ran {
    let mark = out.mark();
    let ran = run_handler(shard, job, handler, out);
    if let (Gather::With(gather), Ran::Fine) = (gather, ran) {
        let part = out.bytes()[mark..].to_vec();
        out.rewind(mark);
        gather(&[&part], &mut Reply::new(out, job.caller.resp3));
    }
    ran
}

/// Where a command that runs once per key has its first one, and how many arguments go with each.
fn stride(command: &Command) -> (usize, usize) {
    let crate::command::Keys::Range(first, _, step) = command.keys[0] else {
        unreachable!("{}: one range of keys", command.name)
    };
    (first as usize - command.name_words(), step as usize)
}

/// The arguments of each part of a command that runs once per key.
pub fn parts<'a>(command: &Command, args: &Args<'a>) -> impl Iterator<Item = Args<'a>> + use<'a> {
    let ((first, step), args) = (stride(command), *args);
    (first..args.len()).step_by(step).map(move |at| args.range(at, step.min(args.len() - at)))
}

/// Keys of one command whose memory is asked for at a time. Among a million keys, an MGET of ten spent
/// more than half of its time waiting for the memory of one key after the other: 1.45 times what
/// Valkey takes, and 0.85 with this.
const WINDOW: usize = 16;

fn run_each(
    shard: &mut Shard,
    job: &Job,
    handler: Handler,
    gather: Gather,
    out: &mut ReplyBuf,
) -> Ran {
    let (start, count) = (out.mark(), job.args.len());
    let (first, step) = stride(job.command);
    // MSET with a key and no value: nothing may have been written when that comes out.
    if !(count - first).is_multiple_of(step) {
        return fail(&job.command.wrong_arity(), out, start, job.caller.resp3);
    }
    if let Gather::InOrder = gather {
        Reply::new(out, job.caller.resp3).array((count - first) / step);
    }
    let sum = match run_keys(shard, job, first, handler, gather, out, None) {
        Ok(sum) => sum,
        Err(Failure { code, reply }) => {
            out.rewind(start);
            out.extend(&reply);
            return Ran::Failed(code);
        }
    };
    match gather {
        Gather::InOrder => {}
        Gather::Sum => Reply::new(out, job.caller.resp3).integer(sum),
        Gather::Ok => Reply::new(out, job.caller.resp3).ok(),
        Gather::Concat | Gather::Text | Gather::With(_) => {
            unreachable!("{}: gathers over shards, not keys", job.command.name)
        }
    }
    Ran::Fine
}

/// Runs those of a command's parts that belong to this shard's keys: `job.args` has theirs alone,
/// from the first key on. Replies that add up become one number; those that stay apart end where
/// `ends` says.
pub fn run_parts(
    shard: &mut Shard,
    job: &Job,
    handler: Handler,
    gather: Gather,
    out: &mut ReplyBuf,
    ends: &mut Vec<usize>,
) -> Ran {
    let (start, count) = (out.mark(), ends.len());
    match run_keys(shard, job, 0, handler, gather, out, Some(ends)) {
        Ok(sum) => {
            if let Gather::Sum = gather {
                Reply::new(out, job.caller.resp3).integer(sum);
            }
            Ran::Fine
        }
        Err(Failure { code, reply }) => {
            ends.truncate(count);
            out.rewind(start);
            out.extend(&reply);
            Ran::Failed(code)
        }
    }
}

/// A part that failed, and with it the command: nothing that can has written before it.
struct Failure {
    code: u8,
    reply: Vec<u8>,
}

/// Runs a handler once per key, from argument `first` on. Leaves the replies that stay apart, and
/// returns the sum of those that add up.
#[inline]
fn run_keys(
    shard: &mut Shard,
    job: &Job,
    first: usize,
    handler: Handler,
    gather: Gather,
    out: &mut ReplyBuf,
    mut ends: Option<&mut Vec<usize>>,
) -> Result<i64, Failure> {
    doing::command(job.command.id);
    let (args, step) = (&job.args, stride(job.command).1);
    let (mut sum, mut hashes) = (0, [0; WINDOW]);
    // It is journaled as one command, of the keys that it has changed.
    let mut changed: SmallVec<[&[u8]; 8]> = SmallVec::new();
    let is_journaled = shard.journal().is_on();
    for from in (first..args.len()).step_by(WINDOW * step) {
        let places = (from..args.len()).step_by(step).take(WINDOW);
        let hashes = &mut hashes[..places.len()];
        for (at, hash) in places.clone().zip(hashes.iter_mut()) {
            *hash = args.key(at).hash();
            shard.prefetch(job.caller.db(), *hash);
        }
        // One or two are looked up as soon as they would be asked for.
        if hashes.len() > 2 {
            for hash in hashes.iter() {
                shard.prefetch_block(job.caller.db(), *hash);
            }
        }
        for (at, hash) in places.zip(hashes) {
            let mark = out.mark();
            let job = Job { args: args.range(at, step).with_hash(0, *hash), ..*job };
            let (ran, has_written) = call(shard, &job, handler, out);
            if let Ran::Failed(code) = ran {
                return Err(Failure { code, reply: out.bytes()[mark..].to_vec() });
            }
            if has_written && is_journaled {
                changed.extend(job.args.iter());
            }
            match gather {
                Gather::InOrder => {
                    if let Some(ends) = &mut ends {
                        ends.push(out.mark());
                    }
                    continue;
                }
                Gather::Sum => sum += integer(&out.bytes()[mark..]),
                _ => {}
            }
            out.rewind(mark);
        }
    }
    if !changed.is_empty() {
        let words = name_of(job.command).chain(changed.iter().copied());
        shard.journal().command(job.caller.db(), words);
    }
    Ok(sum)
}

/// The number in an integer reply.
#[inline]
pub fn integer(reply: &[u8]) -> i64 {
    // What nearly every part of a sum says.
    if let [b':', digit @ (b'0' | b'1'), b'\r', b'\n'] = reply {
        return i64::from(digit - b'0');
    }
    let digits = reply.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b"\r\n"));
    digits.and_then(crate::base::number::parse_i64).expect("the handler replies with an integer")
}

/// The locks a command needs, given that all its keys are here.
///
/// # Errors
/// When its arguments do not say where its keys are.
pub fn wants(command: &Command, args: &Args, db: usize) -> Result<Wants, Error> {
    if let Run::All(..) = command.run {
        return Ok(locks::whole(mode(command)));
    }
    if let Run::Cursor(_) = command.run {
        return Ok(locks::of_keys(std::iter::empty()));
    }
    let mode = mode(command);
    let places = command.key_places(args)?;
    let moved = moves_to(command, args).map(|to| (locks::fingerprint(to, args.key(0)), mode));
    Ok(locks::of_keys(
        places
            .iter()
            .enumerate()
            .map(|(i, place)| {
                // COPY … DB: a key in another database. A wrong index fails in the handler.
                let db = db_of_key(command, args, i, db).unwrap_or(db);
                (locks::fingerprint(db, args.key(*place)), mode)
            })
            .chain(moved),
    ))
}

/// The database that MOVE moves its key to, where it is locked too. A wrong index fails in the handler.
pub fn moves_to(command: &Command, args: &Args) -> Option<usize> {
    let is_move = command.name == "MOVE";
    is_move.then(|| crate::base::number::parse_usize(args.get(1)?)).flatten()
}

/// Whether a command's locks are shared or exclusive.
pub fn mode(command: &Command) -> Mode {
    let writes =
        command.is(flag::WRITES) || (command.is(flag::EXCLUSIVE) && !broken(Rule::CutAlone));
    if writes { Mode::Exclusive } else { Mode::Shared }
}

/// The database one of a command's keys is in.
///
/// # Errors
/// When the arguments name none.
pub fn db_of_key(command: &Command, args: &Args, key: usize, db: usize) -> Result<usize, Error> {
    match command.run {
        Run::Across(across) => (across.db_of)(args, key, db),
        _ => Ok(db),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::base::key::Key;
    use crate::resp::Span;
    use crate::shard::event::Classes;

    /// Runs a line on database 0, and tells its reply and what happened to which keys, a database
    /// other than 0 before them.
    fn run(shard: &mut Shard, line: &str) -> (String, String) {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for word in line.split(' ') {
            spans.push(Span { at: bytes.len() as u32, len: word.len() as u32 });
            bytes.extend_from_slice(word.as_bytes());
        }
        let words = Args::new(&bytes, &spans);
        let command = crate::command::find(words.at(0)).expect("a command");
        assert!(command.takes(words.len()), "{line}");
        let args = words.from(command.name_words());
        let mut out = ReplyBuf::default();
        let job = Job { command, args, caller: Caller::default() };
        run_by_itself(shard, &job, &mut out);
        let mut events = Vec::new();
        shard.take_events(|event, db, key| {
            let db = if db == 0 { String::new() } else { format!("{db}:") };
            events.push(format!("{db}{} {}", event.name(), String::from_utf8_lossy(key)));
        });
        (String::from_utf8_lossy(out.bytes()).into_owned(), events.join(", "))
    }

    /// What Valkey 9.1 sends its replicas for the same lines; Redis 8 says DEL for UNLINK. Where one of
    /// them does not know a command (MSETEX, DELIFEQ), it leaves as what both know.
    #[test]
    fn commands_leave_as_their_effects() {
        let mut shard = Shard::new(0, 1, 3);
        shard.set_journal_on(true);
        shard.set_now(Now { unix_ms: 1_000_000, monotonic_ns: 1 });
        for (line, expected) in [
            ("SET a 1", "SET a 1"),
            ("SET a 2 EX 100", "SET a 2 PXAT 1100000"),
            ("SET a 3 KEEPTTL", "SET a 3 KEEPTTL"),
            ("SET a 4 NX", ""),
            ("SET a 5 XX GET", "SET a 5"),
            ("SET a 6 PXAT 1", "UNLINK a"),
            ("SET b 1 EXAT 9999", "SET b 1 PXAT 9999000"),
            ("SETEX c 100 v", "SET c v PXAT 1100000"),
            ("PSETEX c 9 v", "SET c v PXAT 1000009"),
            ("SETNX d 1", "SETNX d 1"),
            ("SETNX d 1", ""),
            ("GETSET d 2", "SET d 2"),
            ("GETEX d EX 100", "PEXPIREAT d 1100000"),
            ("GETEX d", ""),
            ("GETEX d PERSIST", "PERSIST d"),
            ("GETEX d PXAT 1", "UNLINK d"),
            ("SET d 1", "SET d 1"),
            ("GETDEL d", "DEL d"),
            ("INCR n", "INCR n"),
            ("INCRBYFLOAT n 1.5", "SET n 2.5 KEEPTTL"),
            ("APPEND n x", "APPEND n x"),
            ("SETRANGE n 1 yy", "SETRANGE n 1 yy"),
            ("EXPIRE n 100", "PEXPIREAT n 1100000"),
            ("EXPIREAT n 9999", "PEXPIREAT n 9999000"),
            ("PERSIST n", "PERSIST n"),
            ("EXPIRE n -1", "UNLINK n"),
            ("MSET e 1 f 2", "MSET e 1 f 2"),
            ("MSETNX g 1 h 2", "MSETNX g 1 h 2"),
            ("MSETEX 2 i 1 j 2 PX 9", "MULTI SET i 1 PXAT 1000009 SET j 2 PXAT 1000009 EXEC"),
            ("DEL e nope f", "DEL e f"),
            ("DEL nope", ""),
            ("UNLINK g", "UNLINK g"),
            ("RENAME h k", "RENAME h k"),
            ("COPY k l DB 1", "COPY k l DB 1"),
            ("MOVE k 1", "MOVE k 1"),
            ("SET q 1", "SET q 1"),
            ("DELIFEQ q 1", "DEL q"),
            ("SWAPDB 0 1", "SWAPDB 0 1"),
            ("FLUSHDB ASYNC", "FLUSHDB ASYNC"),
            ("FLUSHALL", "FLUSHALL"),
            ("PSETEX x 9 v", "SET x v PXAT 1000009"),
            ("PSETEX y 9 v", "SET y v PXAT 1000009"),
            ("PSETEX z 9 v", "SET z v PXAT 1000009"),
            ("later", ""),
            ("SET x 1 GET", "MULTI UNLINK x SET x 1 EXEC"),
            ("MGET x y z", "MULTI UNLINK y UNLINK z EXEC"),
        ] {
            if line == "later" {
                shard.set_now(Now { unix_ms: 1_000_010, monotonic_ns: 2 });
                continue;
            }
            run(&mut shard, line);
            let chunk = shard.journal().take().unwrap_or_default();
            let text = String::from_utf8_lossy(&chunk.bytes);
            let words = text.split("\r\n").filter(|word| !word.starts_with(['*', '$']));
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            assert_eq!(words.join(" "), expected, "{line}");
        }
    }

    /// As Valkey 9.1 does under `notify-keyspace-events KEA`. (RENAME and MOVE tell what went first.)
    #[test]
    fn commands_raise_their_events() {
        let mut shard = Shard::new(0, 1, 3);
        shard.set_now(Now { unix_ms: 1_000_000, monotonic_ns: 1 });
        shard.listen(Classes::GENERIC | Classes::STRING | Classes::EXPIRED);
        for (line, expected) in [
            ("SET a 1", "set a"),
            ("SET a 2 EX 100", "set a, expire a"),
            ("SET a 2 NX", ""),
            ("SET a 1 PXAT 1", "expired a"),
            ("SET a 1 PXAT 1", ""),
            ("SETEX b 100 v", "set b, expire b"),
            ("PSETEX b 100000 v", "set b, expire b"),
            ("SETNX c 1", "set c"),
            ("SETNX c 1", ""),
            ("GETSET c 2", "set c"),
            ("MSET d 1 e 2", "set d, set e"),
            ("MSETNX f 1 g 2", "set f, set g"),
            ("MSETNX f 1 n 2", ""),
            ("MSETEX 2 h 1 i 2 EX 100", "set h, expire h, set i, expire i"),
            ("INCR c", "incrby c"),
            ("DECR c", "incrby c"),
            ("INCRBY c 5", "incrby c"),
            ("DECRBY c 2", "incrby c"),
            ("INCRBYFLOAT c 1.5", "incrbyfloat c"),
            ("APPEND c x", "append c"),
            ("APPEND new x", "append new"),
            ("SETRANGE c 1 yy", "setrange c"),
            ("SETRANGE c 1 ", ""),
            ("SETRANGE other 1 y", "setrange other"),
            ("GETEX c", ""),
            ("GETEX c EX 100", "expire c"),
            ("GETEX c PERSIST", "persist c"),
            ("GETEX c PERSIST", ""),
            ("GETEX c PXAT 1", "expired c"),
            ("EXPIRE d 100", "expire d"),
            ("PERSIST d", "persist d"),
            ("PERSIST d", ""),
            ("EXPIRE d -1", "expired d"),
            ("EXPIRE d -1", ""),
            ("RENAME e e2", "rename_from e, rename_to e2"),
            ("RENAME e2 f", "rename_from e2, rename_to f"),
            ("RENAME f f", ""),
            ("RENAMENX f g", ""),
            ("RENAMENX f k", "rename_from f, rename_to k"),
            ("COPY k l", "copy_to l"),
            ("COPY k l", ""),
            ("COPY k l DB 2 REPLACE", "2:copy_to l"),
            ("MOVE k 2", "move_from k, 2:move_to k"),
            ("MOVE l 2", ""),
            ("GETDEL l", "del l"),
            ("GETDEL l", ""),
            ("DELIFEQ g 3", ""),
            ("DELIFEQ g 2", "del g"),
            ("DEL h i j", "del h, del i"),
            ("UNLINK b b", "del b"),
            ("MGET new other", ""),
            ("SWAPDB 0 0", ""),
            ("SWAPDB 0 2", ""),
            ("FLUSHDB", ""),
            ("FLUSHALL", ""),
            ("SET t v PX 10", "set t, expire t"),
        ] {
            let (reply, events) = run(&mut shard, line);
            assert_eq!(events, expected, "{line}, which replied {reply:?}");
        }
        shard.set_now(Now { unix_ms: 1_000_011, monotonic_ns: 2 });
        assert_eq!(run(&mut shard, "GET t"), ("$-1\r\n".into(), "expired t".into()));
    }

    /// More keys than are fetched at a time, and a key more than once.
    #[test]
    fn commands_of_many_keys_run_in_windows() {
        let mut shard = Shard::new(0, 1, 1);
        for count in [1, 2, 3, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW + 3] {
            let pairs: String = (0..count).map(|i| format!(" k{i} v{i}")).collect();
            let names: String = (0..count).map(|i| format!(" k{i}")).collect();
            let values: String =
                (0..count).map(|i| format!("v{i}")).fold(format!("*{count}\r\n"), |all, value| {
                    all + &format!("${}\r\n{value}\r\n", value.len())
                });
            let of = |shard: &mut Shard, line: &str| run(shard, line).0;
            assert_eq!(of(&mut shard, &format!("MSET{pairs}")), "+OK\r\n");
            assert_eq!(of(&mut shard, &format!("MGET{names}")), values);
            assert_eq!(
                of(&mut shard, &format!("EXISTS{names}{names}")),
                format!(":{}\r\n", 2 * count)
            );
            assert_eq!(of(&mut shard, &format!("DEL{names}{names}")), format!(":{count}\r\n"));
            assert!(of(&mut shard, &format!("MSET{pairs} k")).starts_with("-ERR wrong number"));
            assert!(shard.db(0).peek(Key::new(b"k0")).is_none(), "nothing is half done");
        }
    }

    #[test]
    #[should_panic(expected = "GET says Ok(Wrote)")]
    #[cfg(debug_assertions)]
    fn a_handler_that_does_not_say_what_it_did_is_found_out() {
        let mut shard = Shard::new(0, 1, 1);
        let command = crate::command::find(b"GET").expect("a command");
        let args = Args::new(b"", &[]);
        let job = Job { command, args, caller: Caller::default() };
        _ = call(&mut shard, &job, |_, _, _| Ok(Effect::Wrote), &mut ReplyBuf::default());
    }
}
