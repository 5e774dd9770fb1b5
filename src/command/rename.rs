//! `rename-command`: other names for commands, or none. Done once, at the start, for the whole
//! process: a name that is not there any more, or is new, is marked in the index of names, so that
//! looking up the others costs what it did.

use super::{COUNT, Command, INDEX, INDEX_LEN, NAME_MAX, all, name_hash};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// In the index: this name is no command's any more, or it is a new one.
const MARK: u16 = u16::MAX;

/// The names that are not those of the declarations.
static NEW_NAMES: OnceLock<Vec<Named>> = OnceLock::new();

/// A command under a name.
type Named = (Box<[u8]>, &'static Command);

/// Names for commands: the declared ones, with these changes made one after another.
fn renamed(changes: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<Named>, &'static str> {
    let commands = all().iter().filter(|command| command.name_words() == 1);
    let mut names: Vec<Named> =
        commands.map(|command| (command.name.as_bytes().into(), command)).collect();
    for (from, to) in changes {
        let place = |name: &[u8]| names.iter().position(|(known, _)| same(known, name));
        let at = place(from).ok_or("No such command in rename-command")?;
        if to.is_empty() {
            names.remove(at);
        } else if place(to).is_some() {
            return Err("Target command name already exists");
        } else {
            names[at].0 = to.as_slice().into();
        }
    }
    Ok(names)
}

/// Gives commands other names, in order: from, to. An empty name takes the command away. To be called
/// once, before anybody looks a command up.
///
/// # Errors
/// When there is no command of a name, or one of the new name already; nothing has changed then.
pub fn apply(changes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), &'static str> {
    if changes.is_empty() {
        return Ok(());
    }
    const { assert!(COUNT < MARK as usize - 1) }
    let mut names = renamed(changes)?;
    for command in all().iter().filter(|command| command.name_words() == 1) {
        let declared = command.name.as_bytes();
        let kept = names.iter().any(|(name, other)| same(name, declared) && other.id == command.id);
        if !kept {
            let (mut at, number) = (name_hash(declared), command.id + 1);
            while INDEX[at].load(Ordering::Relaxed) != number {
                at = (at + 1) % INDEX_LEN;
            }
            INDEX[at].store(MARK, Ordering::Relaxed);
        }
    }
    names.retain(|(name, command)| !same(name, command.name.as_bytes()));
    for (name, _) in names.iter().filter(|(name, _)| name.len() <= NAME_MAX) {
        let mut at = name_hash(name);
        while !matches!(INDEX[at].load(Ordering::Relaxed), 0 | MARK) {
            at = (at + 1) % INDEX_LEN;
        }
        INDEX[at].store(MARK, Ordering::Relaxed);
    }
    // Told twice, the first time counts: nobody does.
    let _ = NEW_NAMES.set(names);
    Ok(())
}

/// A command by a name that is not declared.
#[cold]
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let names = NEW_NAMES.get()?;
    names.iter().find(|(known, _)| same(known, name)).map(|(_, command)| *command)
}

fn same(known: &[u8], name: &[u8]) -> bool {
    known.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        pairs.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect()
    }

    fn name_of(pairs: &[(&str, &str)], command: &str) -> Result<Option<String>, &'static str> {
        let names = renamed(&changes(pairs))?;
        let found = names.into_iter().find(|(_, known)| known.name == command);
        Ok(found.map(|(name, _)| String::from_utf8(name.into()).unwrap()))
    }

    // `apply` itself changes the whole process: tests/limits.rs does that.
    #[test]
    fn changes_follow_one_another() {
        assert_eq!(name_of(&[], "GET"), Ok(Some("GET".into())));
        assert_eq!(name_of(&[("get", "")], "GET"), Ok(None));
        assert_eq!(name_of(&[("get", "a"), ("A", "b")], "GET"), Ok(Some("b".into())));
        let swap = [("get", "x"), ("set", "get"), ("x", "set")];
        assert_eq!(name_of(&swap, "GET"), Ok(Some("set".into())));
        assert_eq!(name_of(&swap, "SET"), Ok(Some("get".into())));
        assert_eq!(name_of(&[("nope", "x")], "GET"), Err("No such command in rename-command"));
        assert_eq!(name_of(&[("get", "")], "SET").unwrap(), Some("SET".into()));
        assert_eq!(
            name_of(&[("get", ""), ("get", "x")], "GET"),
            Err("No such command in rename-command")
        );
        assert_eq!(name_of(&[("get", "Set")], "GET"), Err("Target command name already exists"));
    }
}
