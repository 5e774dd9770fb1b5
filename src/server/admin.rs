//! The admin port: `/metrics`, `/health`, `/history` and a page, over HTTP/1.1, one request a connection.
//!
//! One thread of low priority serves it with poll(2), beside the shards and never in their way. What
//! anybody sends here is bounded before it is kept: connections, bytes of a request, and the time one
//! takes. Where connections are full, the oldest goes, so that whoever holds many open keeps nobody
//! out.

use super::listen::{self, ListenError};
use crate::base::clock::Now;
use crate::base::limits::{ADMIN_CONNECTIONS, ADMIN_REQUEST_BYTES, ADMIN_REQUEST_MS};
use crate::config::Config;
use crate::exposition::pulse::{Pulse, Stall};
use crate::exposition::{self, history::History};
use crate::instance::Instance;
use crate::instance::persistence::Loading;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients the kernel queues; more than are served at a time would only wait.
const BACKLOG: i32 = ADMIN_CONNECTIONS as i32;
/// How often the shards are looked at.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// A shard that has not turned for so long does not serve: `/health` says so.
const PATIENCE: Duration = Duration::from_secs(1);
/// This thread's niceness: a shard that has something to do comes first.
const NICE: i32 = 10;
/// Most headers of a request that are looked at.
const HEADERS_MAX: usize = 64;

/// Opens the admin port's sockets, if it is configured.
///
/// # Errors
/// When an address is malformed or cannot be had.
pub fn listen(config: &Config) -> Result<Vec<Socket>, ListenError> {
    let mut sockets = Vec::new();
    if config.admin_port() == 0 {
        return Ok(sockets);
    }
    for text in config.admin_bind() {
        let ip: IpAddr = match text.as_str() {
            "*" => IpAddr::from([0, 0, 0, 0]),
            "::*" => IpAddr::from([0u16; 8]),
            text => listen::resolve(text).ok_or_else(|| ListenError::Address(text.to_owned()))?,
        };
        let address = SocketAddr::new(ip, config.admin_port());
        let socket = listen::tcp(address, BACKLOG, listen::LINGER)
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        sockets.push(socket.map_err(|error| listen::refused(address, "admin", &error))?);
    }
    Ok(sockets)
}

/// Serves the admin port on a thread of its own, for as long as the process lives.
///
/// # Errors
/// When there is no thread to be had.
pub fn serve(instance: &Arc<Instance>, sockets: Vec<Socket>) -> io::Result<()> {
    if sockets.is_empty() {
        return Ok(());
    }
    for socket in &sockets {
        if let Some(address) = socket.local_addr()?.as_socket() {
            tracing::info!("Metrics, health and status on http://{address}/");
        }
    }
    let instance = Arc::clone(instance);
    let now = Now::read();
    let pulse = Pulse::new(&instance.metrics, now.monotonic_ns);
    let history = History::new(&instance.metrics, now);
    let connections = VecDeque::new();
    let admin = Admin { instance, sockets, connections, pulse, history, accepts: true };
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || admin.run()).map(drop)
}

struct Admin {
    instance: Arc<Instance>,
    sockets: Vec<Socket>,
    /// The oldest first.
    connections: VecDeque<Connection>,
    pulse: Pulse,
    history: History,
    /// No accept has failed lately.
    accepts: bool,
}

impl Admin {
    fn run(mut self) {
        // Where it is refused, this thread is as important as others.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        loop {
            let ready = self.wait();
            let now = Instant::now();
            let time = Now::read();
            let stall = self.pulse.look(&self.instance.metrics, time.monotonic_ns, PATIENCE);
            self.history.look(&self.instance.metrics, time);
            for (connection, ready) in self.connections.iter_mut().zip(&ready) {
                if *ready {
                    connection.go_on(|request| match request {
                        Request::Metrics => {
                            let text = exposition::metrics(&self.instance, time);
                            Response::new("200 OK", exposition::METRICS_TYPE, text)
                        }
                        Request::Health => {
                            health(stall, self.instance.persistence().state().loading)
                        }
                        Request::History => {
                            Response::new("200 OK", "application/json", self.history.json())
                        }
                        Request::Page => {
                            let page = exposition::PAGE.to_owned();
                            Response::new("200 OK", "text/html; charset=utf-8", page)
                        }
                    });
                }
            }
            self.connections.retain(|connection| !connection.is_over(now));
            self.accept(now);
        }
    }

    /// Waits until something can be done, or the shards are to be looked at. Returns which
    /// connections can go on.
    fn wait(&mut self) -> Vec<bool> {
        let mut polled: Vec<PollFd> =
            self.connections.iter().map(|one| PollFd::new(&one.stream, one.wants())).collect();
        if self.accepts {
            let sockets = self.sockets.iter();
            polled.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
        }
        // Interrupted or out of memory: what is not ready now is at the next look.
        let _ = poll(&mut polled, Some(&LOOK_EVERY));
        let ready = polled.iter().map(|fd| !fd.revents().is_empty());
        ready.take(self.connections.len()).collect()
    }

    fn accept(&mut self, now: Instant) {
        self.accepts = true;
        for socket in &self.sockets {
            // As many as may be served: the loop ends, however many wait.
            for _ in 0..ADMIN_CONNECTIONS {
                match socket.accept() {
                    Ok((stream, _)) => {
                        let stream = TcpStream::from(stream);
                        if stream.set_nonblocking(true).is_err() {
                            continue;
                        }
                        if self.connections.len() == ADMIN_CONNECTIONS {
                            self.connections.pop_front();
                        }
                        self.connections.push_back(Connection::new(stream, now));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        // No descriptor is free, perhaps: it is tried again at the next look.
                        self.accepts = false;
                        break;
                    }
                }
            }
        }
    }
}

/// Whether clients are served.
fn health(stall: Option<Stall>, loading: Option<Loading>) -> Response {
    const NOT_NOW: &str = "503 Service Unavailable";
    match (stall, loading) {
        (Some(stall), _) => Response::text(NOT_NOW, format!("{stall}\n")),
        (None, Some(Loading { bytes, total_bytes: Some(total), .. })) => {
            Response::text(NOT_NOW, format!("loading: {bytes} of {total} bytes\n"))
        }
        (None, Some(Loading { bytes, total_bytes: None, .. })) => {
            Response::text(NOT_NOW, format!("loading: {bytes} bytes so far\n"))
        }
        (None, None) => Response::text("200 OK", "ok\n".to_owned()),
    }
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Metrics,
    Health,
    History,
    Page,
}

struct Connection {
    stream: TcpStream,
    until: Instant,
    state: State,
}

enum State {
    /// The bytes of a request so far.
    Reading(Vec<u8>),
    /// A response, and how much of it is sent.
    Writing(Vec<u8>, usize),
    /// Everything is sent. What else comes is read and dropped: to close with bytes unread would
    /// take the response back.
    Draining,
    Over,
}

impl Connection {
    fn new(stream: TcpStream, now: Instant) -> Connection {
        let until = now + Duration::from_millis(ADMIN_REQUEST_MS);
        Connection { stream, until, state: State::Reading(Vec::new()) }
    }

    fn wants(&self) -> PollFlags {
        match self.state {
            State::Writing(..) => PollFlags::OUT,
            _ => PollFlags::IN,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.until || matches!(self.state, State::Over)
    }

    /// Does what can be done without waiting.
    fn go_on(&mut self, answer: impl FnOnce(Request) -> Response) {
        if let State::Reading(bytes) = &mut self.state {
            match read_some(&mut self.stream, bytes) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => return self.state = State::Over,
            }
            if let Some(response) = respond(bytes, answer) {
                self.state = State::Writing(response, 0);
            }
        }
        if let State::Writing(bytes, sent) = &mut self.state {
            while *sent < bytes.len() {
                match self.stream.write(&bytes[*sent..]) {
                    Ok(n) if n > 0 => *sent += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    Ok(_) | Err(_) => return self.state = State::Over,
                }
            }
            // It may have gone already, and then so be it.
            let _ = self.stream.shutdown(Shutdown::Write);
            self.state = State::Draining;
        }
        if let State::Draining = self.state {
            // Once per call, so that nobody who goes on sending keeps this thread.
            match self.stream.read(&mut [0; 4096]) {
                Ok(n) if n > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => self.state = State::Over,
            }
        }
    }
}

/// Reads what is there, up to one byte more than a request may have. Returns whether there was
/// anything; that nothing more will come is an error.
fn read_some(stream: &mut impl io::Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 2048];
    let room = (ADMIN_REQUEST_BYTES + 1 - bytes.len()).min(chunk.len());
    match stream.read(&mut chunk[..room]) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(n) => {
            bytes.extend_from_slice(&chunk[..n]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is answered to these bytes, unless they are only the beginning of a request.
fn respond(bytes: &[u8], answer: impl FnOnce(Request) -> Response) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refuse = |status: &'static str| Response::text(status, format!("{status}\n"));
    let response = match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() > ADMIN_REQUEST_BYTES => {
            refuse("431 Request Header Fields Too Large")
        }
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => refuse("431 Request Header Fields Too Large"),
        Err(_) => refuse("400 Bad Request"),
        Ok(httparse::Status::Complete(_)) => {
            let method = request.method.unwrap_or("");
            let target = request.path.unwrap_or("");
            let path = target.split(['?', '#']).next().unwrap_or("");
            let found = match path {
                "/" => Some(Request::Page),
                "/metrics" => Some(Request::Metrics),
                "/health" => Some(Request::Health),
                "/history" => Some(Request::History),
                _ => None,
            };
            match (method, found) {
                ("GET", Some(found)) => answer(found),
                ("HEAD", Some(found)) => return Some(answer(found).into_bytes(false)),
                ("GET" | "HEAD", None) => refuse("404 Not Found"),
                _ => refuse("405 Method Not Allowed"),
            }
        }
    };
    Some(response.into_bytes(true))
}

struct Response {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Response {
    fn new(status: &'static str, kind: &'static str, body: String) -> Response {
        Response { status, kind, body }
    }

    fn text(status: &'static str, body: String) -> Response {
        Response::new(status, "text/plain; charset=utf-8", body)
    }

    fn into_bytes(self, with_body: bool) -> Vec<u8> {
        let allow = if self.status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        // The page brings its own script and style, and may talk to nobody but this port.
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: default-src 'none'; script-src 'unsafe-inline'; \
             style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'\r\n\
             Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
            self.status,
            self.kind,
            self.body.len(),
        );
        let mut bytes = head.into_bytes();
        if with_body {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status line's code and the request that was understood.
    fn ask(bytes: &[u8]) -> Option<(String, Option<Request>)> {
        let mut asked = None;
        let response = respond(bytes, |request| {
            asked = Some(request);
            Response::text("200 OK", "fine".to_owned())
        })?;
        let text = String::from_utf8(response).expect("ASCII");
        let code = text.split(' ').nth(1).expect("a code").to_owned();
        assert!(text.contains("\r\n\r\n"));
        Some((code, asked))
    }

    #[test]
    fn requests() {
        type Wanted = Option<(&'static str, Option<Request>)>;
        let cases: [(&[u8], Wanted); 12] = [
            (b"GET /history HTTP/1.1\r\n\r\n", Some(("200", Some(Request::History)))),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Some(("200", Some(Request::Page)))),
            (b"GET /metrics HTTP/1.0\r\n\r\n", Some(("200", Some(Request::Metrics)))),
            (b"HEAD /health?x=/ HTTP/1.1\r\n\r\nmore", Some(("200", Some(Request::Health)))),
            (b"GET /metrics HTTP/1.1\r\nHost:", None),
            (b"", None),
            (b"GET /metrics/ HTTP/1.1\r\n\r\n", Some(("404", None))),
            (b"GET //metrics HTTP/1.1\r\n\r\n", Some(("404", None))),
            (b"POST /metrics HTTP/1.1\r\n\r\n", Some(("405", None))),
            (b"*1\r\n$4\r\nPING\r\n", Some(("400", None))),
            (b"GET / HTTP/9.9\r\n\r\n", Some(("400", None))),
            (b"\x16\x03\x01\x02\x00", Some(("400", None))),
        ];
        for (bytes, wanted) in cases {
            let wanted = wanted.map(|(code, request)| (code.to_owned(), request));
            assert_eq!(ask(bytes), wanted, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn too_much_is_refused() {
        let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; ADMIN_REQUEST_BYTES]].concat();
        assert_eq!(ask(&long).map(|(code, _)| code).as_deref(), Some("431"));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(ask(many.as_bytes()).map(|(code, _)| code).as_deref(), Some("431"));
        // And never more of it is kept.
        let (mut endless, mut kept) = (io::repeat(b'a'), Vec::new());
        for _ in 0..100 {
            if kept.len() > ADMIN_REQUEST_BYTES {
                break;
            }
            assert!(read_some(&mut endless, &mut kept).expect("there is always more"));
        }
        assert_eq!(kept.len(), ADMIN_REQUEST_BYTES + 1);
    }

    #[test]
    fn a_head_has_no_body() {
        let bytes = Response::text("200 OK", "body".to_owned()).into_bytes(false);
        assert!(bytes.ends_with(b"\r\n\r\n") && bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(String::from_utf8_lossy(&bytes).contains("Content-Length: 4\r\n"));
    }
}
