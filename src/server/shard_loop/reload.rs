//! DEBUG RELOAD: the data is saved, forgotten, and loaded again. Meanwhile the server is loading.

use super::ShardLoop;
use super::save::Saves;
use crate::base::error::Error;
use crate::command::persistence::EMPTY;
use crate::persist::loader::Options;
use crate::route::message::Asker;

/// A reload under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reload {
    /// Who waits for it.
    pub(super) asker: Asker,
    /// Whether what there is goes first.
    pub(super) flush: bool,
    /// Whether a key of the file takes the place of one that is there.
    pub(super) merge: bool,
    /// How far it is.
    pub(super) stage: Reloading,
}

/// What is being done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reloading {
    /// The data is being saved.
    Saving,
    /// Shards know by the next turn that data is being loaded.
    Announced,
    /// What there is goes.
    Emptying,
    /// The file is being loaded.
    Loading,
    /// It was not sound: what has been loaded of it goes.
    Dropping,
}

impl Saves {
    /// The reload under way.
    fn reload(&mut self) -> Option<&mut Reload> {
        self.lead.as_mut()?.reload.as_mut()
    }
}

impl ShardLoop {
    /// From the next turn on, every shard refuses what needs data: then what there is can go.
    pub(super) fn announce_load(&mut self) {
        if let Some(reload) = self.saves.reload() {
            reload.stage = Reloading::Announced;
        }
        self.announce_loading();
    }

    /// What a turn does about it. Returns whether there is more to do at once.
    pub(super) fn lead_reload(&mut self) -> bool {
        let Some(reload) = self.saves.reload() else { return false };
        match reload.stage {
            Reloading::Saving | Reloading::Loading => return false,
            // As soon as this shard knows; another does when it is asked for its locks.
            Reloading::Announced if !self.node.is_loading() => {}
            Reloading::Announced if reload.flush => {
                reload.stage = Reloading::Emptying;
                self.node.begin_inner(&EMPTY);
            }
            Reloading::Announced => self.load_again(),
            Reloading::Emptying => {
                if self.node.take_concluded().is_some() {
                    self.load_again();
                }
            }
            Reloading::Dropping => {
                if self.node.take_concluded().is_some() {
                    self.instance.tell_persistence(|state| state.loading = None);
                    let text = "ERR Error trying to load the RDB dump, check server logs";
                    self.end_reload(Err(Error::text(text)));
                }
            }
        }
        true
    }

    /// What a client wanted to be loaded again is not sound. Nothing half loaded stays.
    pub(super) fn drop_loaded(&mut self) {
        if let Some(reload) = self.saves.reload() {
            reload.stage = Reloading::Dropping;
            self.node.begin_inner(&EMPTY);
        }
    }

    fn load_again(&mut self) {
        let Some(reload) = self.saves.reload() else { return };
        reload.stage = Reloading::Loading;
        let (replaces, flush) = (reload.merge, reload.flush);
        if flush {
            // They come again with the file.
            self.instance.tell_persistence(|state| state.functions.clear());
        }
        let config = self.instance.config();
        let path = config.dir().join(config.dbfilename());
        self.begin_load(
            &path,
            Options { verifies: config.rdbchecksum(), replaces, drops_expired: true },
        );
    }

    /// Whether a client waits for the load under way.
    pub(super) fn is_reloading(&self) -> bool {
        self.saves.lead.as_ref().is_some_and(|lead| lead.reload.is_some())
    }

    /// The load that a client has asked for is over.
    pub(super) fn end_reload(&mut self, result: Result<(), Error>) {
        let Some(lead) = &mut self.saves.lead else { return };
        if let Some(reload) = lead.reload.take() {
            self.answer(Some(reload.asker), result.map(|()| "OK"));
        }
        self.go_on();
    }
}
