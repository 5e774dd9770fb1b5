//! Listening sockets: TCP on several addresses, and a unix socket.

use crate::config::Config;
use crate::config::value::io_reason;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Where it listens, for logs: `address:port` or a path.
    pub name: String,
    place: Place,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    /// The file to remove when it closes.
    Unix(PathBuf),
}

impl Listener {
    /// Its descriptor.
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// What it is, as logs call it.
    pub fn kind(&self) -> &'static str {
        match self.place {
            Place::Tcp(_) => "tcp",
            Place::Unix(_) => "unix",
        }
    }

    /// Turns newcomers away from now on; who waits in the backlog is turned away too.
    pub fn close(&self) {
        // An error means that it does not listen.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Takes back [`Listener::close`].
    fn reopen(&self, backlog: i32) -> io::Result<()> {
        self.socket.listen(backlog)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Place::Unix(path) = &self.place {
            tracing::info!("Removing the unix socket file.");
            // Somebody may have removed it; then there is nothing to do.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address is none.
    #[error("Invalid bind address '{0}'")]
    Address(String),
    /// The system refuses. Why stands in the log.
    #[error("Failed listening on port {0} ({1}), aborting.")]
    Port(u16, &'static str),
    /// The system refuses.
    #[error("Failed opening Unix socket: bind: {}", io_reason(.0))]
    Unix(io::Error),
    /// There is nothing to listen on.
    #[error("Configured to not listen anywhere, exiting.")]
    Nowhere,
}

/// Opens everything the configuration names. A `bind` address with a leading `-` may be missing.
///
/// # Errors
/// When an address is malformed or cannot be had, or nothing is configured.
pub fn open(config: &Config) -> Result<Vec<Arc<Listener>>, ListenError> {
    let mut listeners = open_tcp(config, &addresses(config)?, LINGER)?;
    if let Some(path) = config.unixsocket() {
        let socket = unix(path, config).map_err(ListenError::Unix)?;
        let (name, place) = (path.display().to_string(), Place::Unix(path.to_owned()));
        listeners.push(Arc::new(Listener { socket, name, place }));
    }
    if listeners.is_empty() {
        return Err(ListenError::Nowhere);
    }
    Ok(listeners)
}

/// Says why there is no listening on an address, and returns what follows from that.
pub fn refused(address: SocketAddr, kind: &'static str, error: &io::Error) -> ListenError {
    let reason = io_reason(error);
    tracing::warn!(
        "Warning: Could not create server TCP listening socket {address}: bind: {reason}"
    );
    ListenError::Port(address.port(), kind)
}

/// What `old` becomes when the configuration does: sockets whose addresses are still wanted stay as
/// they are, the others close, and new ones open. When that fails, all is as it was.
///
/// # Errors
/// When an address is malformed or cannot be had.
pub fn follow(old: &[Arc<Listener>], config: &Config) -> Result<Vec<Arc<Listener>>, ListenError> {
    let wanted = addresses(config)?;
    let is_wanted = |listener: &Arc<Listener>| match &listener.place {
        Place::Tcp(place) => wanted.iter().any(|(_, address)| address == place),
        // It is chosen at the start.
        Place::Unix(_) => true,
    };
    let (stay, go): (Vec<_>, Vec<_>) = old.iter().cloned().partition(is_wanted);
    let is_open = |address: &SocketAddr| stay.iter().any(|l| l.place == Place::Tcp(*address));
    let missing: Vec<_> = wanted.iter().filter(|(_, address)| !is_open(address)).copied().collect();
    // First: a port of all addresses cannot be had while it is open on one of them.
    go.iter().for_each(|listener| listener.close());
    match open_tcp(config, &missing, Duration::ZERO) {
        Ok(fresh) => Ok(stay.into_iter().chain(fresh).collect()),
        Err(error) => {
            for listener in go {
                if let Err(error) = listener.reopen(config.tcp_backlog()) {
                    tracing::warn!("Failed listening on {} again: {error}", listener.name);
                }
            }
            Err(error)
        }
    }
}

/// The addresses of the configuration, each with whether it may be missing.
fn addresses(config: &Config) -> Result<Vec<(bool, SocketAddr)>, ListenError> {
    if config.port() == 0 {
        return Ok(Vec::new());
    }
    let address = |text: &String| {
        let (optional, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let ip: IpAddr = match text {
            "*" => IpAddr::from([0, 0, 0, 0]),
            "::*" => IpAddr::from([0u16; 8]),
            text => resolve(text).ok_or_else(|| ListenError::Address(text.to_owned()))?,
        };
        Ok((optional, SocketAddr::new(ip, config.port())))
    };
    config.bind().iter().filter(|text| !text.is_empty()).map(address).collect()
}

/// Listens on all addresses, each tried for `patience` while somebody else has it.
fn open_tcp(
    config: &Config,
    addresses: &[(bool, SocketAddr)],
    patience: Duration,
) -> Result<Vec<Arc<Listener>>, ListenError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for (optional, address) in addresses {
        let name = address.to_string();
        match tcp(*address, config.tcp_backlog(), patience) {
            Ok(socket) => {
                let place = Place::Tcp(*address);
                listeners.push(Arc::new(Listener { socket, name, place }));
            }
            Err(error) if *optional && is_unavailable(&error) => {}
            Err(error) => return Err(refused(*address, "tcp", &error)),
        }
    }
    Ok(listeners)
}

/// A literal address, or the first that a name stands for.
pub fn resolve(text: &str) -> Option<IpAddr> {
    use std::net::ToSocketAddrs;
    let literal = text.parse().ok();
    literal.or_else(|| (text, 0).to_socket_addrs().ok()?.next().map(|found| found.ip()))
}

/// Whether the machine does not have the address, or not the protocol.
fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOPROTOOPT)
    )
}

/// A socket that listens, or will be able to in a moment.
pub fn tcp(address: SocketAddr, backlog: i32, patience: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections; a second server on the port still fails.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let give_up = Instant::now() + patience;
    loop {
        match socket.bind(&address.into()).and_then(|()| socket.listen(backlog)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(socket),
        }
    }
}

/// A server that was killed leaves its ring, and with it its listening socket, to the kernel to
/// tear down in its own time: a port that is taken may be free in a moment.
pub const LINGER: Duration = Duration::from_secs(1);

fn unix(path: &Path, config: &Config) -> io::Result<Socket> {
    // A stale socket file of a server that was killed is in the way; anything else is not ours.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(config.tcp_backlog())?;
    if config.unixsocketperm() != 0 {
        let mode = std::fs::Permissions::from_mode(config.unixsocketperm());
        std::fs::set_permissions(path, mode)?;
    }
    Ok(socket)
}

/// Prepares an accepted connection: no delay for small replies, and probes for dead peers every
/// `keepalive` seconds (0: none). What a unix socket refuses does not matter to it.
pub fn prepare(fd: &impl std::os::fd::AsFd, keepalive: u32) {
    let _ = sockopt::set_tcp_nodelay(fd, true);
    if keepalive > 0 {
        let interval = u64::from(keepalive);
        let seconds = |n: u64| std::time::Duration::from_secs(n.max(1));
        let _ = sockopt::set_socket_keepalive(fd, true);
        let _ = sockopt::set_tcp_keepidle(fd, seconds(interval));
        // As Redis: probes at a third of the interval, three of them.
        let _ = sockopt::set_tcp_keepintvl(fd, seconds(interval / 3));
        let _ = sockopt::set_tcp_keepcnt(fd, 3);
    }
}

/// Whether the other end of a connection is on this machine.
pub fn is_local(fd: &OwnedSocket) -> bool {
    let peer = socket2::SockRef::from(fd).peer_addr();
    // An address that is no internet address is that of a Unix socket.
    peer.is_ok_and(|peer| {
        peer.as_socket().is_none_or(|address| address.ip().to_canonical().is_loopback())
    })
}

/// The texts CLIENT LIST shows for both ends of a connection.
pub fn names(fd: &OwnedSocket, unix_path: Option<&Path>) -> (String, String) {
    let text = |address: io::Result<SockAddr>| match address.ok().and_then(|a| a.as_socket()) {
        Some(address) => address.to_string(),
        None => format!("{}:0", unix_path.map_or_else(String::new, |p| p.display().to_string())),
    };
    let socket = socket2::SockRef::from(fd);
    (text(socket.peer_addr()), text(socket.local_addr()))
}

/// An accepted connection.
pub type OwnedSocket = std::os::fd::OwnedFd;
