//! Room for cases about time: few of them run at once in a process, however many crews it has.
//!
//! They mostly wait; how late the machine is meanwhile is measured, and lateness within that is no verdict.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Cases about time that run at once, for each core.
const A_CORE: usize = 4;

/// The room of this process.
pub(super) static ROOM: Room = Room::new();

/// Room for so many cases for each core.
pub(super) struct Room {
    state: Mutex<State>,
}

struct State {
    taken: usize,
    /// Those who found no room, each to be told once that there may be some.
    waiting: Vec<Box<dyn FnOnce() + Send>>,
}

/// The place of one case, free again when this is dropped.
#[must_use = "the place is free again when this is dropped"]
pub(super) struct Place {
    room: &'static Room,
}

impl Room {
    pub(super) const fn new() -> Self {
        Self { state: Mutex::new(State { taken: 0, waiting: Vec::new() }) }
    }

    /// How many cases have room at once.
    pub(super) fn size() -> usize {
        super::cores() * A_CORE
    }

    /// A place. Where there is none, `when_there_is` is called as soon as there may be one, from whichever thread leaves it.
    pub(super) fn take(&'static self, when_there_is: impl FnOnce() + Send + 'static) -> Option<Place> {
        let mut state = self.lock();
        if state.taken < Self::size() {
            state.taken += 1;
            return Some(Place { room: self });
        }
        state.waiting.push(Box::new(when_there_is));
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.room.lock();
            state.taken -= 1;
            std::mem::take(&mut state.waiting)
        };
        // All of them: whoever is told first may have no use for it any more.
        waiting.into_iter().for_each(|tell| tell());
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn whoever_finds_no_room_is_told_when_a_place_is_left() {
        static ROOM: Room = Room::new();
        let (told, tellings) = mpsc::channel();
        let take = || {
            let told = told.clone();
            ROOM.take(move || told.send(()).expect("somebody listens"))
        };
        let mut places: Vec<Place> = (0..Room::size()).filter_map(|_| take()).collect();
        assert_eq!(places.len(), Room::size());
        assert!(take().is_none() && take().is_none() && tellings.try_recv().is_err());
        drop(places.pop());
        assert_eq!(tellings.try_iter().count(), 2);
        assert!(take().is_some(), "and its place was free again at once");
        drop(places);
        assert_eq!(tellings.try_iter().count(), 0, "each is told once");
    }
}
