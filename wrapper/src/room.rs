//! Where the supervisor reads to, and from where it hands out what it read without copying it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// The most that is handed out at a time.
pub(crate) const ROOM: usize = 64 * 1024;

/// How many blocks wait for their next use; what is more is freed.
const SPARE_BLOCKS: usize = 8;

/// One block to read into, for all runs; and the blocks that came back from whoever took the output before.
///
/// New memory would cost more than reading into it: the kernel has to clear every page of it.
#[derive(Debug)]
pub(crate) struct Room {
    block: Box<[u8]>,
    spare: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { block: new_block(), spare: Arc::default() }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.block
    }

    /// The first `count` bytes of the block. What is kept of them keeps no more than twice their size alive.
    pub(crate) fn hand_out(&mut self, count: usize) -> Bytes {
        if count < ROOM / 2 {
            return Bytes::copy_from_slice(&self.block[..count]);
        }
        let spare = lock(&self.spare).pop();
        let block = std::mem::replace(&mut self.block, spare.unwrap_or_else(new_block));
        Bytes::from_owner(HandedOut { block, count, spare: Arc::clone(&self.spare) })
    }

    /// Frees what is not in use.
    pub(crate) fn tidy(&mut self) {
        drop(std::mem::take(&mut *lock(&self.spare)));
    }
}

fn new_block() -> Box<[u8]> {
    vec![0; ROOM].into()
}

fn lock(spare: &Mutex<Vec<Box<[u8]>>>) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block on its way through the hands of others. It comes back when the last of them lets go.
struct HandedOut {
    block: Box<[u8]>,
    count: usize,
    spare: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl AsRef<[u8]> for HandedOut {
    fn as_ref(&self) -> &[u8] {
        &self.block[..self.count]
    }
}

impl Drop for HandedOut {
    fn drop(&mut self) {
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE_BLOCKS {
            spare.push(std::mem::take(&mut self.block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(room: &mut Room, byte: u8, count: usize) -> Bytes {
        room.bytes()[..count].fill(byte);
        room.hand_out(count)
    }

    #[test]
    fn what_was_handed_out_does_not_change_when_the_room_is_used_again() {
        let mut room = Room::new();
        let taken: Vec<_> = [(1, 5), (2, ROOM), (3, ROOM / 2), (4, 100)]
            .into_iter()
            .map(|(byte, count)| (byte, count, fill(&mut room, byte, count)))
            .collect();
        room.bytes().fill(9);
        for (byte, count, bytes) in taken {
            assert_eq!(bytes, vec![byte; count]);
        }
    }

    #[test]
    fn a_block_comes_back_when_the_last_part_of_it_is_let_go_and_is_not_kept_beyond_need() {
        let mut room = Room::new();
        let mut whole = fill(&mut room, 1, ROOM);
        let part = whole.split_off(ROOM / 2);
        drop(whole);
        assert_eq!(lock(&room.spare).len(), 0);
        drop(part);
        assert_eq!(lock(&room.spare).len(), 1);
        let many: Vec<_> = (0..20).map(|_| fill(&mut room, 2, ROOM)).collect();
        drop(many);
        assert_eq!(lock(&room.spare).len(), SPARE_BLOCKS);
        room.tidy();
        assert_eq!(lock(&room.spare).len(), 0);
    }
}
