//! A wire between a primary and its replica that can be cut, held up, and made to trickle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::support::free_port;

/// See the module's head.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where connections go on to; 0 refuses them.
    target: AtomicU16,
    /// What goes through at a time; 0 is all there is.
    piece: AtomicU64,
    /// Time between two pieces, in microseconds.
    pause_us: AtomicU64,
    /// Bytes from the target that still go through before the wire is cut; `u64::MAX` for no end.
    left: AtomicU64,
    is_over: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A wire to a port of this machine.
    pub fn to(target: u16) -> Proxy {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("listen");
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            piece: AtomicU64::new(0),
            pause_us: AtomicU64::new(0),
            left: AtomicU64::new(u64::MAX),
            is_over: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Proxy { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections; new ones are let through.
    pub fn cut(&self) {
        self.shared.left.store(u64::MAX, Ordering::SeqCst);
        self.shared.cut();
    }

    /// Lets so many bytes of the target through, and then cuts the wire, in the middle of whatever it is.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Lets pieces of so many bytes through, with a pause after each; 0 for all there is, at once.
    pub fn trickle(&self, piece: u64, pause: Duration) {
        self.shared.piece.store(piece, Ordering::SeqCst);
        self.shared.pause_us.store(pause.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.cut();
        // It wakes up who accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn cut(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for incoming in listener.incoming() {
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        let target = shared.target.load(Ordering::SeqCst);
        let (Ok(near), Ok(far)) = (incoming, TcpStream::connect(("127.0.0.1", target))) else {
            continue;
        };
        let clone = |stream: &TcpStream| stream.try_clone().expect("clone a socket");
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.extend([clone(&near), clone(&far)]);
        drop(connections);
        let (up, down) = (Arc::clone(shared), Arc::clone(shared));
        let (near_up, far_up) = (clone(&near), clone(&far));
        thread::spawn(move || carry(near_up, far_up, &up, false));
        thread::spawn(move || carry(far, near, &down, true));
    }
}

/// Carries bytes one way until somebody has had enough.
fn carry(mut from: TcpStream, mut to: TcpStream, shared: &Shared, is_down: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(got @ 1..) = from.read(&mut buffer) {
        let mut rest = &buffer[..got];
        while !rest.is_empty() {
            let piece = match shared.piece.load(Ordering::SeqCst) as usize {
                0 => rest.len(),
                piece => piece.min(rest.len()),
            };
            let left = shared.left.load(Ordering::SeqCst);
            let now = if is_down {
                piece.min(usize::try_from(left).unwrap_or(usize::MAX))
            } else {
                piece
            };
            if to.write_all(&rest[..now]).is_err() {
                break;
            }
            if is_down && left != u64::MAX {
                shared.left.fetch_sub(now as u64, Ordering::SeqCst);
                if now == 0 {
                    shared.left.store(u64::MAX, Ordering::SeqCst);
                    shared.cut();
                    return;
                }
            }
            rest = &rest[now..];
            let pause = shared.pause_us.load(Ordering::SeqCst);
            if pause > 0 {
                thread::sleep(Duration::from_micros(pause));
            }
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
