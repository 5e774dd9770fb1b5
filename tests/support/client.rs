//! A blocking connection that sends what it is told, byte for byte, and reads any RESP reply.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use super::value::Value;
use super::{PATIENCE, wait_until};

/// A TCP or unix stream with its two directions held apart.
pub struct Client {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    /// For what only TCP can do: half-closing, cloning for a second thread.
    tcp: Option<TcpStream>,
}

impl Client {
    #[track_caller]
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|e| panic!("connect to port {port}: {e}"))
    }

    pub fn try_connect(port: u16) -> io::Result<Client> {
        Client::try_connect_to(("127.0.0.1", port))
    }

    pub fn try_connect_to(address: impl ToSocketAddrs) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            reader: BufReader::with_capacity(64 * 1024, Box::new(stream.try_clone()?)),
            writer: Box::new(stream.try_clone()?),
            tcp: Some(stream),
        })
    }

    pub fn connect_unix(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let reader: Box<dyn Read + Send> = Box::new(stream.try_clone()?);
        Ok(Client { reader: BufReader::new(reader), writer: Box::new(stream), tcp: None })
    }

    /// The socket itself, to be used from another thread.
    pub fn tcp(&self) -> TcpStream {
        self.tcp.as_ref().expect("a TCP connection").try_clone().expect("clone the socket")
    }

    /// Closes our sending direction: the server sees the end of input, we still read.
    pub fn finish_sending(&self) {
        self.tcp
            .as_ref()
            .expect("a TCP connection")
            .shutdown(Shutdown::Write)
            .expect("half-close the socket");
    }

    /// Sends one command and returns its reply.
    #[track_caller]
    pub fn cmd(&mut self, args: &[&str]) -> Value {
        self.try_cmd(args).unwrap_or_else(|e| panic!("{args:?}: {e}"))
    }

    #[track_caller]
    pub fn cmd_bytes(&mut self, args: &[&[u8]]) -> Value {
        self.send_raw(&encode(args));
        self.read_reply()
    }

    pub fn try_cmd(&mut self, args: &[&str]) -> io::Result<Value> {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.writer.write_all(&encode(&args))?;
        self.try_read_reply()
    }

    /// Sends one command written as a line: words separated by blanks, `"…"` around what holds a blank or is empty.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Value {
        let args = words(line);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.cmd(&args)
    }

    /// Runs a line and compares its reply.
    #[track_caller]
    pub fn check(&mut self, line: &str, expected: Value) {
        let got = self.run(line);
        assert_eq!(got, expected, "reply to: {line}");
    }

    /// Runs a line whose reply must be an error that starts so.
    #[track_caller]
    pub fn check_error_prefix(&mut self, line: &str, prefix: &str) {
        let got = self.run(line);
        assert!(
            got.error_text().starts_with(prefix),
            "reply to: {line}\n got {got:?}\nwant -{prefix}…"
        );
    }

    /// The key's time to live is this, less what a slow machine may have let pass since it was set.
    #[track_caller]
    pub fn check_ttl(&mut self, key: &str, seconds: i64) {
        let left = self.cmd(&["TTL", key]).int();
        assert!((seconds - 5..=seconds).contains(&left), "TTL {key}: {left} s left of {seconds}");
    }

    /// Polls a command until it gives this reply: for effects that take their time, such as a time to live.
    #[track_caller]
    pub fn wait_for(&mut self, line: &str, expected: Value) {
        wait_until(&format!("{line} gives {expected:?}"), || self.run(line) == expected);
    }

    /// Sends a line without reading the reply.
    #[track_caller]
    pub fn send(&mut self, line: &str) {
        let args = words(line);
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.send_raw(&encode(&args));
    }

    #[track_caller]
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.writer
            .write_all(bytes)
            .and_then(|()| self.writer.flush())
            .expect("send to the server");
    }

    /// Sends what the server may refuse half way by closing, which is then seen when reading.
    pub fn send_raw_lossy(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes).and_then(|()| self.writer.flush());
    }

    #[track_caller]
    pub fn read_reply(&mut self) -> Value {
        self.try_read_reply().unwrap_or_else(|e| panic!("read a reply: {e}"))
    }

    /// The reply to PSYNC: newlines before it are signs of life.
    #[track_caller]
    pub fn read_sync_reply(&mut self) -> Value {
        while self.reader.fill_buf().expect("an answer to PSYNC").first() == Some(&b'\n') {
            self.reader.consume(1);
        }
        self.read_reply()
    }

    #[track_caller]
    pub fn expect(&mut self, expected: Value) {
        let got = self.read_reply();
        assert_eq!(got, expected);
    }

    /// Sends raw bytes and compares the raw answer.
    #[track_caller]
    pub fn check_raw(&mut self, sent: &[u8], expected: &[u8]) {
        self.send_raw(sent);
        self.expect_bytes(expected);
    }

    #[track_caller]
    pub fn expect_bytes(&mut self, expected: &[u8]) {
        // Read line by line up to the expected length, so that a different answer is shown rather than waited out.
        let mut got = Vec::new();
        while got.len() < expected.len() {
            let available = self.reader.fill_buf().unwrap_or_else(|e| {
                panic!(
                    "read {} bytes, then: {e}; got {:?}",
                    got.len(),
                    got.escape_ascii().to_string()
                )
            });
            if available.is_empty() {
                break;
            }
            let take = available.len().min(expected.len() - got.len());
            got.extend_from_slice(&available[..take]);
            self.reader.consume(take);
            if got[..] != expected[..got.len()] {
                break;
            }
        }
        assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    /// The server has closed: the end of the stream or a reset, after nothing more than what was read already.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let rest = self.read_to_close();
        assert!(rest.is_empty(), "bytes before the close: {}", rest.escape_ascii());
    }

    /// Everything up to the server's close.
    #[track_caller]
    pub fn read_to_close(&mut self) -> Vec<u8> {
        let (mut rest, started) = (Vec::new(), Instant::now());
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                ) => {}
            Err(e) => panic!("no close after {:?}: {e}", started.elapsed()),
        }
        rest
    }

    pub fn try_read_reply(&mut self) -> io::Result<Value> {
        let line = self.read_line()?;
        let (kind, rest) = line.split_at(1);
        let length = || rest.parse::<i64>().map_err(|_| broken(&line));
        Ok(match kind {
            "+" => Value::Simple(rest.into()),
            "-" => Value::Error(rest.into()),
            ":" => Value::Int(length()?),
            "$" => match length()? {
                -1 => Value::NilBulk,
                length => Value::Bulk(self.read_body(length)?),
            },
            "*" => match length()? {
                -1 => Value::NilArray,
                length => Value::Array(self.read_many(length)?),
            },
            "_" => Value::Null,
            "~" => Value::Set(self.read_many(length()?)?),
            ">" => Value::Push(self.read_many(length()?)?),
            "%" => {
                let mut pairs = Vec::new();
                for _ in 0..length()? {
                    pairs.push((self.try_read_reply()?, self.try_read_reply()?));
                }
                Value::Map(pairs)
            }
            "," => Value::Double(rest.into()),
            "(" => Value::BigNumber(rest.into()),
            "#" => Value::Bool(rest == "t"),
            "!" => Value::BlobError(self.read_body(length()?)?),
            "=" => {
                let body = self.read_body(length()?)?;
                if body.len() < 4 || body[3] != b':' {
                    return Err(broken(&line));
                }
                Value::Verbatim(
                    String::from_utf8_lossy(&body[..3]).into_owned(),
                    body[4..].to_vec(),
                )
            }
            _ => return Err(broken(&line)),
        })
    }

    fn read_many(&mut self, count: i64) -> io::Result<Vec<Value>> {
        (0..count).map(|_| self.try_read_reply()).collect()
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection",
            ));
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        match text.strip_suffix("\r\n") {
            Some(text) if !text.is_empty() => Ok(text.into()),
            _ => Err(broken(&text)),
        }
    }

    fn read_body(&mut self, length: i64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(|_| broken("a negative length"))?;
        let mut body = vec![0; length + 2];
        self.reader.read_exact(&mut body)?;
        if !body.ends_with(b"\r\n") {
            return Err(broken("a bulk without its CRLF"));
        }
        body.truncate(length);
        Ok(body)
    }
}

fn broken(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {line:?}"))
}

/// A command as an array of bulk strings.
pub fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Splits at blanks, outside double quotes. No escapes: tests that need odd bytes use `cmd_bytes`.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "an unclosed quote in: {line}");
    words.extend(word);
    words
}
