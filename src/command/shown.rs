//! A command as it is shown to those who look on: in SLOWLOG and COMMANDLOG, and to MONITOR. What of
//! it nobody may see, its declaration says.

use super::Command;
use crate::resp::Args;
use std::sync::Arc;

/// Arguments kept of a command, and bytes of an argument: Valkey's figures.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

/// What stands for a secret.
pub const REDACTED: &[u8] = b"(redacted)";

/// A command's words for a log: long ones cut short, and of too many the first.
pub fn words(command: &Command, args: &Args) -> Arc<[Vec<u8>]> {
    let all = command.name_words() + args.len();
    let kept = if all > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { all };
    let secrets = command.secrets(args);
    let name = command.name.split(' ').map(|word| word.to_ascii_lowercase().into_bytes());
    let args = args.iter().enumerate().map(|(at, arg)| match secrets.contains(&at) {
        true => REDACTED.to_vec(),
        false if arg.len() > ARGUMENT_BYTES_MAX => {
            let more = arg.len() - ARGUMENT_BYTES_MAX;
            let mut cut = arg[..ARGUMENT_BYTES_MAX].to_vec();
            cut.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
            cut
        }
        false => arg.to_vec(),
    });
    let mut words: Vec<Vec<u8>> = name.chain(args).take(kept).collect();
    if all > ARGUMENTS_MAX {
        words.push(format!("... ({} more arguments)", all - kept).into_bytes());
    }
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Span;

    fn shown(line: &[&[u8]], command: &str) -> Vec<String> {
        let bytes = line.concat();
        let mut at = 0;
        let span = |word: &&[u8]| {
            let span = Span { at, len: word.len() as u32 };
            at += span.len;
            span
        };
        let spans: Vec<Span> = line.iter().map(span).collect();
        let command = crate::command::declared(command).expect("a command");
        let words = words(command, &Args::new(&bytes, &spans));
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    #[test]
    fn much_is_cut_short() {
        let many: Vec<&[u8]> = vec![b"k"; 32];
        let words = shown(&many, "DEL");
        assert_eq!(words.len(), 32);
        assert_eq!((words[0].as_str(), words[31].as_str()), ("del", "... (2 more arguments)"));
        assert_eq!(shown(&many[..31], "DEL").last().map(String::as_str), Some("k"));
        let long = [b'A'; 129];
        let cut = format!("{}... (1 more bytes)", "A".repeat(128));
        assert_eq!(shown(&[&long], "GET"), ["get", cut.as_str()]);
        assert_eq!(shown(&[&long[..128]], "GET")[1].len(), 128);
    }

    #[test]
    fn secrets_are_not_shown() {
        let hidden = shown(&[b"3", b"auth", b"me", b"secret", b"setname", b"n"], "HELLO");
        assert_eq!(hidden, ["hello", "3", "auth", "(redacted)", "(redacted)", "setname", "n"]);
        let hidden = shown(&[b"port", b"1", b"RequirePass", b"secret"], "CONFIG SET");
        assert_eq!(hidden, ["config", "set", "port", "1", "RequirePass", "(redacted)"]);
        assert_eq!(shown(&[b"secret"], "AUTH"), ["auth", "(redacted)"]);
        assert_eq!(shown(&[b"3", b"auth"], "HELLO"), ["hello", "3", "auth"]);
    }
}
