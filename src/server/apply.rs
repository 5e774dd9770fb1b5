//! What a change of the configuration means for sockets and descriptors.
//!
//! Listening sockets are opened and closed by whoever runs the CONFIG SET, before it is answered; the
//! first shard, which accepts on all of them, takes over the new list at its next turn. Until then
//! the kernel keeps newcomers in the backlog.

use super::{crash, listen, logs, process, title};
use crate::config::{Config, ConfigError};
use crate::instance::ApplyConfig;
use listen::Listener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The listening sockets, as the configuration wants them.
#[derive(Debug)]
pub struct Listeners {
    list: Mutex<Vec<Arc<Listener>>>,
    /// Counts changes of the list.
    changes: AtomicU64,
}

impl Listeners {
    /// These.
    pub fn new(list: Vec<Arc<Listener>>) -> Listeners {
        Listeners { list: Mutex::new(list), changes: AtomicU64::new(1) }
    }

    /// How often the list has changed.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The list as it is now.
    pub fn list(&self) -> Vec<Arc<Listener>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes them all.
    pub fn close(&self) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn follow(&self, config: &Config) -> Result<(), listen::ListenError> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        *list = listen::follow(&list, config)?;
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct SocketsAndFiles(pub Arc<Listeners>);

impl ApplyConfig for SocketsAndFiles {
    fn apply(&self, from: &Config, to: &Config) -> Result<(), ConfigError> {
        self.follow_maxclients(from, to)?;
        process::follow_oom_score(from, to)?;
        if let Err(error) = title::follow(from, to).and_then(|()| self.follow_addresses(from, to)) {
            // What worked one way works the other.
            let _ = process::follow_oom_score(to, from);
            let _ = title::follow(to, from);
            return Err(error);
        }
        // From here on nothing fails.
        logs::follow(to);
        crash::follow(to);
        Ok(())
    }
}

impl SocketsAndFiles {
    fn follow_maxclients(&self, from: &Config, to: &Config) -> Result<(), ConfigError> {
        if to.maxclients() > from.maxclients()
            && let Err(possible) = process::raise_files(to.maxclients())
        {
            let reason = format!(
                "The operating system is not able to handle the specified number of clients, try \
                 with {possible}"
            );
            return Err(ConfigError::refused("maxclients", reason));
        }
        Ok(())
    }

    fn follow_addresses(&self, from: &Config, to: &Config) -> Result<(), ConfigError> {
        let moved = to.port() != from.port();
        if !moved && to.bind() == from.bind() {
            return Ok(());
        }
        self.0.follow(to).map_err(|error| {
            tracing::warn!("{error}");
            if moved {
                let reason = "Unable to listen on this port. Check server logs.";
                ConfigError::refused("port", reason)
            } else {
                ConfigError::refused("bind", "Failed to bind to specified addresses.")
            }
        })
    }
}
