//! Memory that a worker shares with the front: a sealed memfd, mapped for reading. The worker puts parts of responses
//! there, and leaves them alone until it is told that they were read.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Bytes of such a memory at most: what one worker can make the front map.
pub const LIMIT: usize = 64 << 20;

/// A mapping of it.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    size: usize,
    /// Device and inode of the file: which memory this is.
    identity: (u64, u64),
}

impl Shared {
    /// Maps the memory for reading. `InvalidData` unless `file` is a memfd of 1 byte to [`LIMIT`] that cannot become
    /// shorter.
    #[allow(unsafe_code)]
    pub fn map(file: impl AsFd) -> io::Result<Self> {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        let seals = fcntl(file.as_fd(), FcntlArg::F_GET_SEALS).unwrap_or_default();
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(invalid("it is no memory sealed against shrinking"));
        }
        let stat = fstat(file.as_fd())?;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        let length = std::num::NonZeroUsize::new(size).filter(|size| size.get() <= LIMIT);
        let length = length.ok_or_else(|| invalid("it has not 1 byte to 64 MiB"))?;
        // SAFETY: a fresh mapping chosen by the kernel aliases no Rust object. Its file has `length` bytes and can never
        // have fewer, so no access faults.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self {
            start: start.cast(),
            size,
            identity: (stat.st_dev, stat.st_ino),
        })
    }

    /// True if this is a mapping of that file.
    pub fn is_of(&self, file: impl AsFd) -> io::Result<bool> {
        let stat = fstat(file)?;
        Ok((stat.st_dev, stat.st_ino) == self.identity)
    }

    /// `length` bytes from `offset` on; `None` if the memory ends before.
    ///
    /// Only to be copied, or written to a socket: a worker that breaks its promise may change them meanwhile, so nothing
    /// may be concluded from them.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        offset.checked_add(length).filter(|end| *end <= self.size)?;
        // SAFETY: `offset` was just found to lie in the mapping or at its end.
        let start = unsafe { self.start.add(offset) };
        // SAFETY: these bytes are mapped as long as self lives. Another process can write to them, against its promise;
        // by the contract above nobody's control flow depends on what they are.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), length) })
    }
}

impl Drop for Shared {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: start and size are what mmap returned and was given; no slice outlives self.
        let _ = unsafe { nix::sys::mman::munmap(self.start.cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::{memory_file, sealable_memory_file};
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    #[test]
    fn only_sealed_memory_is_mapped_and_later_writes_are_seen() {
        let mut file = File::from(sealable_memory_file("test").unwrap());
        file.write_all(b"0123456789").unwrap();
        assert_eq!(Shared::map(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        let shared = Shared::map(&file).unwrap();
        file.write_all_at(b"xy", 4).unwrap();
        assert_eq!(shared.bytes(3, 4), Some(&b"3xy6"[..]));
        assert_eq!(shared.bytes(10, 0), Some(&b""[..]));
        assert_eq!((shared.bytes(9, 2), shared.bytes(usize::MAX, 2)), (None, None));
        assert!(shared.is_of(&file).unwrap());
        let other = File::from(memory_file("other").unwrap());
        assert!(!shared.is_of(&other).unwrap());
        assert_eq!(Shared::map(&other).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let empty = sealable_memory_file("empty").unwrap();
        fcntl(&empty, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        assert_eq!(Shared::map(&empty).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(Shared::map(File::open("/dev/zero").unwrap()).is_err());
    }
}
