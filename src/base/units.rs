//! Sizes and durations as people write them.
//!
//! A size is a whole number of bytes, optionally with `k`, `m` or `g` (powers of 1024; `KiB`, `MiB`, `GiB` too).
//! A duration is a number of seconds, optionally with `ms`, `s`, `m` or `h`.
