//! Causal pipelines: whoever has seen the effect of a command, and whoever has been told by him,
//! sees every earlier command of its pipeline and everything that its sender had been told before.
//!
//! Each key has one writer and versions that only grow. Every version has a *past*: the version of
//! each key that was known to anybody, or sent earlier by the same client, when it was sent. What
//! anybody has been told raises what everybody may expect from then on.

use super::super::node::owner_of;
use super::check::Answer;
use super::drive::{Request, Workload};
use super::world::{World, names};
use crate::base::hash::Random;
use std::collections::{HashMap, VecDeque};

/// A version of each key.
type Versions = Vec<u64>;

/// What a command was for.
#[derive(Debug)]
pub enum Tag {
    /// MULTI, and what is queued.
    Queued,
    /// Writes these versions; whether one shard had all of them.
    Wrote(Vec<(usize, u64)>, bool),
    /// Reads these keys, at least as new as this.
    Read(Vec<(usize, u64)>),
}

#[derive(Debug)]
struct Version {
    past: Versions,
    /// Versions whose effects had certainly happened, because a command of their owner's said so.
    happened: Versions,
    /// The same with what was confirmed before all owners had done it.
    confirmed: Versions,
}

/// See the module's head.
#[derive(Debug)]
pub struct Causal {
    /// The keys.
    pub names: Vec<String>,
    shards: usize,
    writers: usize,
    /// Each key's versions, from the first.
    versions: Vec<Vec<Version>>,
    /// What each client has sent, with all its past.
    sent: Vec<Versions>,
    known: Versions,
    happened: Versions,
    confirmed: Versions,
    /// Looks at several keys at one moment that saw an effect without its cause.
    pub torn_looks: u64,
    /// Pairs of effects, one behind a reply that the other follows, whose journal stamps say
    /// otherwise: only where the reply came before the effect.
    pub journal_inversions: u64,
}

/// Keys of one writer.
const EACH: usize = 3;

impl Causal {
    /// So many clients, one of whom only reads.
    pub fn new(random: &mut Random, clients: usize, shards: usize) -> Causal {
        let writers = clients - 1;
        let keys = writers * EACH;
        let none = vec![0; keys];
        Causal {
            names: names("x", keys, random.below(shards as u64) as usize, shards),
            shards,
            writers,
            versions: (0..keys).map(|_| Vec::new()).collect(),
            sent: vec![none.clone(); clients],
            known: none.clone(),
            happened: none.clone(),
            confirmed: none,
            torn_looks: 0,
            journal_inversions: 0,
        }
    }

    fn owner(&self, keys: &[usize]) -> Option<usize> {
        let mut owners = keys
            .iter()
            .map(|key| owner_of(self.names[*key].as_bytes(), self.shards));
        let first = owners.next();
        if owners.all(|owner| Some(owner) == first) {
            first
        } else {
            None
        }
    }

    /// New versions of some keys of a writer, all at once.
    fn write(&mut self, client: usize, keys: &[usize]) -> Vec<(usize, u64)> {
        let sent = &mut self.sent[client];
        raise(sent, &self.known);
        for key in keys {
            sent[*key] = self.versions[*key].len() as u64 + 1;
        }
        for key in keys {
            self.versions[*key].push(Version {
                past: sent.clone(),
                happened: self.happened.clone(),
                confirmed: self.confirmed.clone(),
            });
        }
        keys.iter().map(|key| (*key, sent[*key])).collect()
    }

    fn read(&self, client: usize, keys: &[usize]) -> Vec<(usize, u64)> {
        let least = |key: usize| self.known[key].max(self.sent[client][key]);
        keys.iter().map(|key| (*key, least(*key))).collect()
    }

    fn know(&mut self, key: usize, version: u64) {
        if version > 0 {
            let Version { past, .. } = &self.versions[key][version as usize - 1];
            raise(&mut self.known, past);
        }
    }

    /// Whether the journals' stamps agree with what followed what.
    pub fn check_journals(&mut self, world: &mut World) -> Result<(), String> {
        let mut stamps: HashMap<(usize, u64), u64> = HashMap::new();
        for shard in 0..world.shards() {
            let journal = world.node(shard).shard().journal();
            for frame in journal.frames() {
                let text = String::from_utf8_lossy(&journal.bytes()[frame.command.clone()]);
                let words: Vec<&str> = text.split("\r\n").skip(2).step_by(2).collect();
                for pair in words[1..].chunks_exact(2) {
                    let key = self.names.iter().position(|name| name == pair[0]);
                    let key = key.expect("one of ours");
                    stamps.insert((key, pair[1].parse().expect("a version")), frame.stamp);
                }
            }
        }
        for ((key, version), stamp) in &stamps {
            let this = &self.versions[*key][*version as usize - 1];
            let later = |versions: &Versions| {
                let all = versions.iter().enumerate();
                all.filter(|(other, version)| {
                    stamps.get(&(*other, **version)).is_some_and(|other| other >= stamp)
                })
                .count()
            };
            if later(&this.happened) > 0 {
                let name = &self.names[*key];
                return Err(format!("the journal has {name} {version} before its cause"));
            }
            self.journal_inversions += later(&this.confirmed) as u64;
        }
        Ok(())
    }
}

fn raise(versions: &mut Versions, to: &Versions) {
    for (version, to) in versions.iter_mut().zip(to) {
        *version = (*version).max(*to);
    }
}

impl Workload for Causal {
    type Tag = Tag;

    fn next(
        &mut self,
        client: usize,
        outstanding: usize,
        random: &mut Random,
        _: u64,
    ) -> Vec<Request<Tag>> {
        let mut requests = Vec::new();
        if outstanding > 16 || (outstanding > 0 && random.below(3) > 0) {
            return requests;
        }
        let keys = self.names.len() as u64;
        for _ in 0..=random.below(8) {
            let kind = if client < self.writers { random.below(10) } else { 8 + random.below(2) };
            let mine = |random: &mut Random| client * EACH + random.below(EACH as u64) as usize;
            let (a, b) = (mine(random), mine(random));
            let both = if a == b { vec![a] } else { vec![a, b] };
            let texts = |name: &str, keys: &[usize], versions: Option<&[(usize, u64)]>| {
                let mut words = vec![name.to_owned()];
                for (i, key) in keys.iter().enumerate() {
                    words.push(self.names[*key].clone());
                    words.extend(versions.map(|versions| versions[i].1.to_string()));
                }
                words
            };
            match kind {
                0..=4 => {
                    let versions = self.write(client, &[a]);
                    let words = texts_of(&self.names, "SET", &versions);
                    let owner = self.owner(&[a]);
                    let tag = Tag::Wrote(versions, true);
                    requests.push(Request { words, tag, owner });
                }
                5 | 6 => {
                    let versions = self.write(client, &both);
                    let words = texts_of(&self.names, "MSET", &versions);
                    let owner = self.owner(&both);
                    let tag = Tag::Wrote(versions, owner.is_some());
                    requests.push(Request { words, tag, owner });
                }
                7 => {
                    let versions = self.write(client, &both);
                    let mut say = |words, tag| requests.push(Request { words, tag, owner: None });
                    say(vec!["MULTI".to_owned()], Tag::Queued);
                    for version in &versions {
                        let words = texts_of(&self.names, "SET", std::slice::from_ref(version));
                        say(words, Tag::Queued);
                    }
                    say(vec!["EXEC".to_owned()], Tag::Wrote(versions, false));
                }
                8 => {
                    let key = random.below(keys) as usize;
                    let tag = Tag::Read(self.read(client, &[key]));
                    let (words, owner) = (texts("GET", &[key], None), self.owner(&[key]));
                    requests.push(Request { words, tag, owner });
                }
                _ => {
                    // Keys of one writer, so that looks can be torn at all.
                    let writer = random.below(self.writers as u64) as usize;
                    let keys: Vec<usize> = (writer * EACH..(writer + 1) * EACH).collect();
                    let tag = Tag::Read(self.read(client, &keys));
                    let (words, owner) = (texts("MGET", &keys, None), self.owner(&keys));
                    requests.push(Request { words, tag, owner });
                }
            }
        }
        requests
    }

    fn answer(&mut self, client: usize, tag: Tag, answer: Answer, _: u64) -> Result<(), String> {
        match tag {
            Tag::Queued if answer == Answer::Status => {}
            Tag::Wrote(versions, has_happened)
                if matches!(answer, Answer::Status | Answer::List(_)) =>
            {
                for (key, version) in versions {
                    self.know(key, version);
                    self.confirmed[key] = self.confirmed[key].max(version);
                    if has_happened {
                        self.happened[key] = self.happened[key].max(version);
                    }
                }
            }
            Tag::Read(least) => {
                let told = match answer {
                    Answer::List(all) => all,
                    one => vec![one],
                };
                let mut seen = Vec::new();
                for ((key, least), told) in least.into_iter().zip(told) {
                    let version = match told {
                        Answer::Nil => 0,
                        Answer::Text(version) => version as u64,
                        other => return Err(format!("client {client} reads {other:?}")),
                    };
                    if version < least {
                        let name = &self.names[key];
                        return Err(format!(
                            "client {client} reads {name} {version} where {least} is known"
                        ));
                    }
                    self.know(key, version);
                    self.happened[key] = self.happened[key].max(version);
                    self.confirmed[key] = self.confirmed[key].max(version);
                    seen.push((key, version));
                }
                let torn = seen.iter().filter(|(_, version)| *version > 0).any(|(key, version)| {
                    let past = &self.versions[*key][*version as usize - 1].past;
                    seen.iter().any(|(other, version)| past[*other] > *version)
                });
                self.torn_looks += u64::from(torn);
            }
            tag => return Err(format!("client {client} is told {answer:?} for {tag:?}")),
        }
        Ok(())
    }

    fn gone(&mut self, _: usize, _: VecDeque<Tag>) {}

    fn is_over(&self) -> bool {
        false
    }
}

fn texts_of(names: &[String], name: &str, versions: &[(usize, u64)]) -> Vec<String> {
    let pairs = versions
        .iter()
        .flat_map(|(key, version)| [names[*key].clone(), version.to_string()]);
    std::iter::once(name.to_owned()).chain(pairs).collect()
}
