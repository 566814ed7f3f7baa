//! The headers of a binary (ELF), as far as the kernel reads them.
//!
//! Never here: files.

/// What a binary says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elf {
    /// The processor it is for: `e_machine`.
    pub machine: u16,
    /// The program that loads it and its libraries; `None` = it needs none.
    pub loader: Option<Vec<u8>>,
    /// It is a program, not an object file or a core.
    pub is_program: bool,
}

/// The type of the program header that names the loader.
const PT_INTERP: u64 = 3;

/// Reads the headers from the beginning of a file; `None` if it is no binary, or its headers do not lie there.
pub(super) fn read(start: &[u8]) -> Option<Elf> {
    let bytes = Bytes {
        bytes: start.strip_prefix(b"\x7fELF").map(|_| start)?,
        is_wide: match start.get(4)? {
            1 => false,
            2 => true,
            _ => return None,
        },
        is_little: match start.get(5)? {
            1 => true,
            2 => false,
            _ => return None,
        },
    };
    let (machine, kind) = (bytes.number(18, 2)?, bytes.number(16, 2)?);
    let [table, size, count] = if bytes.is_wide {
        [bytes.number(32, 8)?, bytes.number(54, 2)?, bytes.number(56, 2)?]
    } else {
        [bytes.number(28, 4)?, bytes.number(42, 2)?, bytes.number(44, 2)?]
    };
    let mut loader = None;
    for number in 0..count {
        let header = table.checked_add(number.checked_mul(size)?)?;
        if bytes.number(header, 4)? == PT_INTERP {
            let [offset, length] = if bytes.is_wide {
                [bytes.number(header + 8, 8)?, bytes.number(header + 32, 8)?]
            } else {
                [bytes.number(header + 4, 4)?, bytes.number(header + 16, 4)?]
            };
            let name = bytes.slice(offset, length)?;
            loader = Some(name.strip_suffix(b"\0").unwrap_or(name).to_owned());
        }
    }
    Some(Elf {
        machine: u16::try_from(machine).ok()?,
        loader,
        // ET_EXEC, ET_DYN
        is_program: matches!(kind, 2 | 3),
    })
}

struct Bytes<'b> {
    bytes: &'b [u8],
    is_wide: bool,
    is_little: bool,
}

impl<'b> Bytes<'b> {
    fn slice(&self, offset: u64, length: u64) -> Option<&'b [u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    fn number(&self, offset: u64, length: u64) -> Option<u64> {
        let digits = self.slice(offset, length)?;
        let add = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        Some(if self.is_little {
            digits.iter().rev().fold(0, add)
        } else {
            digits.iter().fold(0, add)
        })
    }
}

/// The processors that machines have: `e_machine`, its name, and what Rust calls it.
const MACHINES: &[(u16, &str)] = &[
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

/// The name of a processor.
pub(super) fn machine_name(machine: u16) -> String {
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    known.map_or_else(|| format!("machine {machine}"), |(_, name)| (*name).to_owned())
}

/// True if a machine of this architecture (as in `std::env::consts::ARCH`) runs binaries for `machine`, or may do so.
pub(super) fn runs_on(machine: u16, architecture: &str) -> bool {
    match (architecture, machine_name(machine).as_str()) {
        ("x86_64", "x86") | ("aarch64", "arm") | ("powerpc64", "powerpc") => true,
        (architecture, name) => name == architecture || !MACHINES.iter().any(|(_, known)| *known == architecture),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_own_binary_is_for_this_machine() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let elf = read(&own).unwrap();
        assert!(elf.is_program && runs_on(elf.machine, std::env::consts::ARCH));
        let loader = String::from_utf8(elf.loader.unwrap()).unwrap();
        assert!(std::path::Path::new(&loader).exists(), "{loader}");
        for length in 0..64 {
            assert_eq!(read(&own[..length]), None, "{length}");
        }
    }

    #[test]
    fn headers_of_32_bits_and_of_the_other_end() {
        let mut elf = b"\x7fELF\x01\x02\x01".to_vec();
        elf.resize(52 + 32, 0);
        elf[16..20].copy_from_slice(&[0, 2, 0, 20]);
        elf[28..32].copy_from_slice(&[0, 0, 0, 52]);
        elf[42..46].copy_from_slice(&[0, 32, 0, 1]);
        elf[52..60].copy_from_slice(&[0, 0, 0, 3, 0, 0, 0, 84]);
        elf[68..72].copy_from_slice(&[0, 0, 0, 4]);
        elf.extend(b"/ld\0");
        let expected = Elf {
            machine: 20,
            loader: Some(b"/ld".to_vec()),
            is_program: true,
        };
        assert_eq!(read(&elf), Some(expected));
    }

    #[test]
    fn machines() {
        assert!(runs_on(62, "x86_64") && runs_on(3, "x86_64") && !runs_on(183, "x86_64"));
        assert!(runs_on(183, "aarch64") && !runs_on(62, "aarch64"));
        assert!(runs_on(9, "unheard-of"));
        assert_eq!(
            (machine_name(183), machine_name(9)),
            ("aarch64".to_owned(), "machine 9".to_owned())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), class in 1_u8..3, order in 1_u8..3) {
            let mut start = b"\x7fELF".to_vec();
            start.extend([class, order]);
            start.extend(bytes);
            read(&start);
        }
    }
}
