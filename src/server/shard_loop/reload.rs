//! DEBUG RELOAD: the data is saved, forgotten, and loaded again. The server is loading from before the cut
//! on, so that nothing is acknowledged that would not be in the file. If the file cannot be loaded the
//! process ends, as it does at its start: there is no data to be served, nor to be saved.

use super::ShardLoop;
use super::load::Purpose;
use super::save::{Saves, about_to_end};
use crate::base::error::Error;
use crate::command::persistence::EMPTY;
use crate::persist::loader::Options;
use crate::route::message::Asker;

/// A reload under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reload {
    /// Who waits for it.
    pub(super) asker: Asker,
    /// Whether the data is saved first.
    pub(super) save: bool,
    /// Whether what there is goes before the file is loaded.
    pub(super) flush: bool,
    /// Whether a key of the file takes the place of one that is there.
    pub(super) merge: bool,
    /// How far it is.
    pub(super) stage: Reloading,
}

/// What is being done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reloading {
    /// Shards know by the next turn that data is being loaded.
    Announced,
    /// The data is being saved.
    Saving,
    /// What there is goes.
    Emptying,
    /// The file is being loaded.
    Loading,
}

impl Saves {
    /// The reload under way.
    fn reload(&mut self) -> Option<&mut Reload> {
        self.lead.as_mut()?.reload.as_mut()
    }
}

impl ShardLoop {
    /// What a turn does about it. Returns whether there is more to do at once.
    pub(super) fn lead_reload(&mut self) -> bool {
        let Some(reload) = self.saves.reload() else { return false };
        match reload.stage {
            Reloading::Saving | Reloading::Loading => return false,
            // As soon as this shard knows; another does when it is asked for its locks.
            Reloading::Announced if !self.node.is_loading() => {}
            Reloading::Announced if reload.save => {
                reload.stage = Reloading::Saving;
                self.save_for_reload();
            }
            Reloading::Announced => self.forget_and_load(),
            Reloading::Emptying => {
                if self.node.take_concluded().is_some() {
                    self.load_again();
                }
            }
        }
        true
    }

    /// The save that comes first has come out like this.
    pub(super) fn saved_for_reload(&mut self, result: Result<(), Error>) {
        // Where the server is about to end, nothing begins on all shards any more: the data stays.
        let result = match self.is_stopping() {
            true => Err(about_to_end()),
            false => result,
        };
        match result {
            Ok(()) => self.forget_and_load(),
            Err(error) => {
                self.instance.tell_persistence(|state| state.loading = None);
                self.end_reload(Err(error));
            }
        }
    }

    fn forget_and_load(&mut self) {
        let Some(reload) = self.saves.reload() else { return };
        if reload.flush {
            reload.stage = Reloading::Emptying;
            self.node.begin_inner(&EMPTY);
        } else {
            self.load_again();
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
            Purpose::Reload,
            &path,
            Options { verifies: config.rdbchecksum(), replaces, drops_expired: true },
        );
    }

    /// Whether the data is whole, though the server is loading: nothing of it has gone yet.
    pub(super) fn is_whole_though_loading(&self) -> bool {
        let reload = self.saves.lead.as_ref().and_then(|lead| lead.reload);
        reload
            .is_some_and(|reload| matches!(reload.stage, Reloading::Announced | Reloading::Saving))
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
