//! Pub/sub, as declared, and PUBSUB. Subscribing and publishing concern other clients, so the router
//! does it ([`crate::route::pubsub`]).

use super::introspect::help;
use super::{Command, Effect, Family, Keys, Outcome, Run, flag};
use crate::base::error::Error;
use crate::base::glob;
use crate::instance::subscriptions::Kind;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};

/// What the router does for a command of this family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The client subscribes.
    Subscribe(Kind),
    /// It does not want to be subscribed any more: to some names, or to all.
    Unsubscribe(Kind),
    /// It publishes.
    Publish(Kind),
}

/// Whatever concerns messages.
const ALWAYS: u32 = flag::PUBSUB | flag::LOADING | flag::STALE;
/// Also what a client that has subscribed and speaks RESP2 may still say.
const LISTENS: u32 = ALWAYS | flag::NOSCRIPT | flag::SUBSCRIBED;

/// Where COMMAND INFO shows shard channels: a client of a cluster finds the server for them as it does
/// for keys.
const ONE: [Keys; 2] = [Keys::Range(1, 1, 1), Keys::None];
const MANY: [Keys; 2] = [Keys::Range(1, -1, 1), Keys::None];

const fn subscribes(name: &'static str, kind: Kind) -> Command {
    Command::new(name, Run::Pubsub(Deed::Subscribe(kind))).with(LISTENS).since("2.0.0")
}

const fn unsubscribes(name: &'static str, kind: Kind) -> Command {
    Command::new(name, Run::Pubsub(Deed::Unsubscribe(kind))).with(LISTENS).since("2.0.0")
}

const fn publishes(name: &'static str, kind: Kind) -> Command {
    Command::new(name, Run::Pubsub(Deed::Publish(kind))).with(ALWAYS).fast().since("2.0.0")
}

/// Messages to whoever wants them.
pub const FAMILY: Family = Family {
    group: "pubsub",
    commands: &[
        subscribes("PSUBSCRIBE", Kind::Pattern)
            .usage("pattern:pattern...")
            .complexity("O(N) in the number of patterns")
            .summary("Gets what is published in channels whose names match a pattern."),
        publishes("PUBLISH", Kind::Channel)
            .usage("channel message")
            .complexity("O(N+M) in the channel's subscribers and all patterns")
            .summary("Sends a message to whoever has subscribed to a channel."),
        Command::new("PUBSUB", Run::Container)
            .usage("subcommand [argument...]")
            .since("2.8.0")
            .complexity("That of the subcommand")
            .summary("Who has subscribed to what."),
        Command::new("PUBSUB CHANNELS", Run::Session(channels))
            .usage("[pattern:pattern]")
            .with(ALWAYS)
            .since("2.8.0")
            .complexity("O(N) in the number of channels with subscribers")
            .summary("The channels that have subscribers."),
        Command::new("PUBSUB HELP", Run::Session(pubsub_help))
            .usage("")
            .with(flag::LOADING | flag::STALE)
            .since("6.2.0")
            .summary("What the subcommands do."),
        Command::new("PUBSUB NUMPAT", Run::Session(numpat))
            .usage("")
            .with(ALWAYS)
            .since("2.8.0")
            .summary("How many patterns have subscribers."),
        Command::new("PUBSUB NUMSUB", Run::Session(numsub))
            .usage("[channel...]")
            .with(ALWAYS)
            .since("2.8.0")
            .complexity("O(N) in the number of channels asked for")
            .summary("How many have subscribed to each of these channels."),
        Command::new("PUBSUB SHARDCHANNELS", Run::Session(shardchannels))
            .usage("[pattern:pattern]")
            .with(ALWAYS)
            .since("7.0.0")
            .complexity("O(N) in the number of shard channels with subscribers")
            .summary("The shard channels that have subscribers."),
        Command::new("PUBSUB SHARDNUMSUB", Run::Session(shardnumsub))
            .usage("[shardchannel...]")
            .with(ALWAYS)
            .since("7.0.0")
            .complexity("O(N) in the number of shard channels asked for")
            .summary("How many have subscribed to each of these shard channels."),
        unsubscribes("PUNSUBSCRIBE", Kind::Pattern)
            .usage("[pattern:pattern...]")
            .complexity("O(N) in the number of patterns")
            .summary("Ends subscriptions to patterns."),
        Command { keys: ONE, ..SPUBLISH },
        Command { keys: MANY, ..SSUBSCRIBE },
        subscribes("SUBSCRIBE", Kind::Channel)
            .usage("channel...")
            .complexity("O(N) in the number of channels")
            .summary("Gets what is published in channels."),
        Command { keys: MANY, ..SUNSUBSCRIBE },
        unsubscribes("UNSUBSCRIBE", Kind::Channel)
            .usage("[channel...]")
            .complexity("O(N) in the number of channels")
            .summary("Ends subscriptions to channels."),
    ],
};

const SPUBLISH: Command = publishes("SPUBLISH", Kind::Shard)
    .usage("shardchannel message")
    .keyed("NOT_KEY")
    .since("7.0.0")
    .complexity("O(N) in the channel's subscribers")
    .summary("Sends a message to whoever has subscribed to a shard channel.");

const SSUBSCRIBE: Command = subscribes("SSUBSCRIBE", Kind::Shard)
    .usage("shardchannel...")
    .keyed("NOT_KEY")
    .since("7.0.0")
    .complexity("O(N) in the number of shard channels")
    .summary("Gets what is published in shard channels.");

const SUNSUBSCRIBE: Command = unsubscribes("SUNSUBSCRIBE", Kind::Shard)
    .usage("[shardchannel...]")
    .keyed("NOT_KEY")
    .since("7.0.0")
    .complexity("O(N) in the number of shard channels")
    .summary("Ends subscriptions to shard channels.");

/// PUBSUB CHANNELS.
fn channels(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    list("CHANNELS", Kind::Channel, env, args, reply)
}

/// PUBSUB SHARDCHANNELS.
fn shardchannels(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    list("SHARDCHANNELS", Kind::Shard, env, args, reply)
}

fn list(name: &str, kind: Kind, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    if args.len() > 1 {
        return Err(Error::owned(format!(
            "ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."
        )));
    }
    let mut found = Vec::new();
    env.instance.subscriptions.names(kind, |name| {
        if args.get(0).is_none_or(|pattern| glob::matches(pattern, name, false)) {
            found.push(name.to_vec());
        }
    });
    reply.array(found.len());
    found.iter().for_each(|name| reply.bulk(name));
    Ok(Effect::Read)
}

/// PUBSUB NUMPAT.
fn numpat(_: &mut Session, env: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    reply.integer(env.instance.subscriptions.len(Kind::Pattern) as i64);
    Ok(Effect::Read)
}

/// PUBSUB NUMSUB.
fn numsub(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    count(Kind::Channel, env, args, reply)
}

/// PUBSUB SHARDNUMSUB.
fn shardnumsub(_: &mut Session, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    count(Kind::Shard, env, args, reply)
}

fn count(kind: Kind, env: &Env, args: &Args, reply: &mut Reply) -> Outcome {
    reply.array(2 * args.len());
    for name in args.iter() {
        reply.bulk(name);
        reply.integer(env.instance.subscriptions.count(kind, name) as i64);
    }
    Ok(Effect::Read)
}

/// PUBSUB HELP.
fn pubsub_help(_: &mut Session, _: &Env, _: &Args, reply: &mut Reply) -> Outcome {
    help(
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    The channels that have subscribers, or those whose names match the pattern.",
            "NUMPAT",
            "    How many patterns have subscribers.",
            "NUMSUB [<channel> ...]",
            "    How many have subscribed to each of these channels, patterns not counted.",
            "SHARDCHANNELS [<pattern>]",
            "    The shard channels that have subscribers, or those that match the pattern.",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    How many have subscribed to each of these shard channels.",
        ],
        reply,
    )
}
