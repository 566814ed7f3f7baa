//! A worker's board: shared pages of 64-bit cells, a memfd.
//!
//! Cell 0 belongs to the front: the number of requests it has given this worker and not seen the end of.
//! Cell 1 + n belongs to slot n of the worker: the identifier of the request it runs, 0 when idle.
//! The last cell belongs to the worker as well: its beat, which it counts up while it waits for a request.
//! Workers write in host byte order, by a store into their own mapping or by `pwrite`; nobody locks.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a board.
pub const SIZE: usize = 16384;

/// Slots that have a cell.
pub const SLOTS: usize = SIZE / 8 - 2;

/// The cell of the beat.
const BEAT: usize = SLOTS + 1;

/// A mapped board.
#[derive(Debug)]
pub struct Board {
    page: NonNull<AtomicU64>,
}

impl Board {
    /// Gives the memory file its size; call once, by its maker.
    pub fn prepare(file: impl AsFd) -> io::Result<()> {
        Ok(nix::unistd::ftruncate(file, SIZE as i64)?)
    }

    /// Maps a prepared board. Fails if the file is smaller than a board.
    #[allow(unsafe_code)]
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let meta = nix::sys::stat::fstat(file.as_fd())?;
        if meta.st_size < SIZE as i64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "board file is too small"));
        }
        let size = std::num::NonZeroUsize::new(SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh shared mapping chosen by the kernel aliases no Rust object; its file has SIZE bytes and is
        // sealed against shrinking by `seal`, so no access faults.
        let page = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { page: page.cast() })
    }

    #[allow(unsafe_code)]
    fn cell(&self, place: usize) -> &AtomicU64 {
        debug_assert!(place <= BEAT);
        // SAFETY: place is clamped inside the page, which is mapped as long as self lives.
        let cell = unsafe { self.page.add(place.min(BEAT)) };
        // SAFETY: the cell is mapped and aligned; AtomicU64 tolerates concurrent stores of other processes.
        unsafe { cell.as_ref() }
    }

    /// Requests in the worker's hands, as last written by a front.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.cell(0).load(Ordering::Relaxed)
    }

    /// Writes the number of requests in the worker's hands.
    pub fn set_in_flight(&self, count: u64) {
        self.cell(0).store(count, Ordering::Relaxed);
    }

    /// What slot `slot` runs: a request identifier, or 0.
    #[must_use]
    pub fn running(&self, slot: usize) -> u64 {
        self.cell(slot.saturating_add(1)).load(Ordering::Acquire)
    }

    /// True if a front has given the worker a request, or one of its slots runs one it has pulled.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.in_flight() > 0 || (0..SLOTS).any(|slot| self.running(slot) != 0)
    }

    /// How often the worker has said that it waits for a request. Its owner's number: only changes mean anything.
    #[must_use]
    pub fn beat(&self) -> u64 {
        self.cell(BEAT).load(Ordering::Relaxed)
    }

    /// Says once more that the worker waits for a request.
    pub fn count_beat(&self) {
        self.cell(BEAT).fetch_add(1, Ordering::Relaxed);
    }

    /// Writes what slot `slot` runs.
    pub fn set_running(&self, slot: usize, request: u64) {
        self.cell(slot.saturating_add(1)).store(request, Ordering::Release);
    }
}

impl Drop for Board {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: page and SIZE are what mmap returned and was given; no reference outlives self.
        let _ = unsafe { nix::sys::mman::munmap(self.page.cast(), SIZE) };
    }
}

/// Makes a board file: sized, and sealed so that no holder can shrink it under a mapping.
pub fn create() -> io::Result<std::os::fd::OwnedFd> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let file = memfd_create("rgunicorn-board", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    Board::prepare(&file)?;
    fcntl(
        &file,
        FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW),
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_share_cells_and_the_file_cannot_shrink() {
        let file = create().unwrap();
        let (one, two) = (Board::map(&file).unwrap(), Board::map(&file).unwrap());
        one.set_running(SLOTS - 1, 77);
        one.set_in_flight(3);
        one.count_beat();
        assert!(two.is_busy());
        assert_eq!(two.beat(), 1);
        assert_eq!((two.running(SLOTS - 1), two.in_flight(), two.running(0)), (77, 3, 0));
        assert!(nix::unistd::ftruncate(&file, 0).is_err());
    }
}
