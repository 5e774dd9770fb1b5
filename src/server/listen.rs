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
use std::time::{Duration, Instant};

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Where it listens, for logs: `address:port` or a path.
    pub name: String,
    /// The file to remove when it closes.
    path: Option<PathBuf>,
}

impl Listener {
    /// Its descriptor.
    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// What it is, as logs call it.
    pub fn kind(&self) -> &'static str {
        if self.path.is_some() { "unix" } else { "tcp" }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
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
pub fn open(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    if config.port() != 0 {
        for address in config.bind() {
            let (optional, text) = match address.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, address.as_str()),
            };
            let ip: IpAddr = match text {
                "*" => IpAddr::from([0, 0, 0, 0]),
                "::*" => IpAddr::from([0u16; 8]),
                text => resolve(text).ok_or_else(|| ListenError::Address(text.to_owned()))?,
            };
            let address = SocketAddr::new(ip, config.port());
            match tcp(address, config.tcp_backlog()) {
                Ok(socket) => {
                    listeners.push(Listener { socket, name: address.to_string(), path: None });
                }
                Err(error) if optional && is_unavailable(&error) => {}
                Err(error) => return Err(refused(address, "tcp", &error)),
            }
        }
    }
    if let Some(path) = config.unixsocket() {
        let socket = unix(path, config).map_err(ListenError::Unix)?;
        let name = path.display().to_string();
        listeners.push(Listener { socket, name, path: Some(path.to_owned()) });
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
pub fn tcp(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections; a second server on the port still fails.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let give_up = Instant::now() + LINGER;
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
const LINGER: Duration = Duration::from_secs(1);

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
