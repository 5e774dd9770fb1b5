//! Connections that this server makes to others. Names are resolved and sockets connected on a thread of
//! their own, one an attempt: both may take as long as somebody else likes.

use super::listen;
use super::neighbours::Neighbours;
use super::transfer::{Connected, Parcel};
use crate::config::Config;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// What an attempt goes by.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its number: what comes of an older one is of no interest any more.
    pub number: u64,
    /// To where: a name or an address,
    pub host: String,
    /// and a port.
    pub port: u16,
    /// How long one address may take.
    pub timeout: Duration,
    /// From which address of this machine, if that matters (`bind-source-addr`).
    pub source: Option<IpAddr>,
    /// `tcp-keepalive`, in seconds.
    pub keepalive: u32,
}

impl Attempt {
    /// To a server, as the configuration wants connections to be.
    pub fn new(number: u64, host: &str, port: u16, config: &Config) -> Attempt {
        Attempt {
            number,
            host: host.to_owned(),
            port,
            timeout: Duration::from_secs(u64::from(config.repl_timeout()).max(1)),
            source: std::str::from_utf8(config.bind_source_addr()).ok().and_then(listen::resolve),
            keepalive: config.tcp_keepalive(),
        }
    }
}

/// Begins to connect; the first shard is handed what comes of it.
///
/// # Errors
/// When there is no thread to be had.
pub fn begin(attempt: Attempt, neighbours: &Arc<Neighbours>) -> io::Result<()> {
    let neighbours = Arc::clone(neighbours);
    let connect = move || {
        let result = connect(&attempt);
        let connected = Connected { attempt: attempt.number, result };
        neighbours.hand_over(0, Parcel::Connected(connected));
    };
    std::thread::Builder::new().name("connect".to_owned()).spawn(connect).map(drop)
}

/// Tries one address after the other.
fn connect(attempt: &Attempt) -> io::Result<OwnedFd> {
    let mut outcome = Err(io::Error::other("the name has no address"));
    for address in (attempt.host.as_str(), attempt.port).to_socket_addrs()? {
        outcome = connect_to(address, attempt);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn connect_to(address: SocketAddr, attempt: &Attempt) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = attempt.source
        && source.is_ipv4() == address.is_ipv4()
    {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&address.into(), attempt.timeout)?;
    let fd = OwnedFd::from(socket);
    listen::prepare(&fd, attempt.keepalive);
    Ok(fd)
}
