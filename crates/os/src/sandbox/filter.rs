//! Seccomp filters: from a list of system calls to the program that the kernel runs before each of them.
//!
//! Owns: the form of the program. Never: installs it, or knows which calls are needed. Invariant: a call of
//! another architecture is refused, and so is a call that no list has. Refused calls return an error and end
//! nothing: a list that lacks a call must not cost a recording.

use crate::confine::Instruction;

/// One test of an argument of a call: `(argument & mask) == value`, in the lower 32 bits, which are all of a
/// C `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// 0 to 5.
    pub(super) argument: u8,
    /// Octets within the argument: 0 for its lower half, 4 for the upper one of a pointer.
    pub(super) at: u8,
    /// Bits that are looked at.
    pub(super) mask: u32,
    /// The value that they must have.
    pub(super) value: u32,
}

impl Test {
    /// The argument is `value`.
    pub(super) fn is(argument: u8, value: u32) -> Self {
        Self { argument, at: 0, mask: u32::MAX, value }
    }

    /// The bits of `mask` in the argument are `value`.
    pub(super) fn bits(argument: u8, mask: u32, value: u32) -> Self {
        Self { argument, at: 0, mask, value }
    }

    /// The argument is a null pointer.
    pub(super) fn null(argument: u8) -> [Self; 2] {
        [Self::is(argument, 0), Self { at: 4, ..Self::is(argument, 0) }]
    }
}

/// A call that is allowed if all tests of any of `cases` are met.
#[derive(Clone, Debug)]
pub(super) struct Guarded {
    pub(super) call: u32,
    pub(super) cases: Vec<Vec<Test>>,
}

/// The allowed calls.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// With any arguments.
    pub(super) plain: Vec<u32>,
    /// With some arguments only.
    pub(super) guarded: Vec<Guarded>,
    /// Not there, as an older kernel would say: the C library knows another way then.
    pub(super) unknown: Vec<u32>,
}

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

// Classes, sizes and operations of linux/bpf_common.h, put together: a word of the call's data; the rest with
// constants.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const IF_EQUAL: u16 = 0x15;
const IF_ABOVE: u16 = 0x25;
const IF_NOT_BELOW: u16 = 0x35;
const RETURN: u16 = 0x06;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
/// "Operation not permitted".
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// "Function not implemented".
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, if_so: u8, if_not: u8) -> Instruction {
    Instruction { code, jt: if_so, jf: if_not, k }
}

/// The program for a list on the architecture that the kernel calls `architecture` (`AUDIT_ARCH_…`).
pub(super) fn program(list: &List, architecture: u32) -> Vec<Instruction> {
    let mut it = vec![
        plain(LOAD, ARCHITECTURE),
        jump(IF_EQUAL, architecture, 1, 0),
        plain(RETURN, REFUSE),
        plain(LOAD, NUMBER),
    ];
    for call in &list.unknown {
        it.extend([jump(IF_EQUAL, *call, 0, 1), plain(RETURN, UNKNOWN)]);
    }
    for guarded in &list.guarded {
        let body = tests(&guarded.cases);
        it.push(jump(IF_EQUAL, guarded.call, 0, distance(body.len())));
        it.extend(body);
    }
    // Ranges rise, so a number below this one that was in none before is in none at all.
    for (first, last) in ranges(&list.plain) {
        it.push(jump(IF_ABOVE, last, 3, 0));
        it.push(jump(IF_NOT_BELOW, first, 0, 1));
        it.extend([plain(RETURN, ALLOW), plain(RETURN, REFUSE)]);
    }
    it.push(plain(RETURN, REFUSE));
    it
}

/// Allows if all tests of any case are met, and refuses otherwise.
fn tests(cases: &[Vec<Test>]) -> Vec<Instruction> {
    let mut it = Vec::new();
    for case in cases {
        let mut rest = vec![plain(RETURN, ALLOW)];
        // From the last test to the first: each has to know how far it is to the next case.
        for test in case.iter().rev() {
            let offset = ARGUMENTS + 8 * u32::from(test.argument) + u32::from(test.at);
            let mut these = vec![plain(LOAD, offset)];
            if test.mask != u32::MAX {
                these.push(plain(AND, test.mask));
            }
            these.push(jump(IF_EQUAL, test.value, 0, distance(rest.len())));
            these.extend(rest);
            rest = these;
        }
        it.extend(rest);
    }
    it.push(plain(RETURN, REFUSE));
    it
}

/// A jump's distance has eight bits. One that does not fit makes the kernel refuse the whole program.
fn distance(instructions: usize) -> u8 {
    debug_assert!(instructions <= usize::from(u8::MAX));
    u8::try_from(instructions).unwrap_or(u8::MAX)
}

/// The numbers as ranges, first and last included, in rising order.
fn ranges(numbers: &[u32]) -> Vec<(u32, u32)> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let mut it: Vec<(u32, u32)> = Vec::new();
    for number in sorted {
        match it.last_mut() {
            Some((_, last)) if number <= last.saturating_add(1) => *last = number,
            _ => it.push((number, number)),
        }
    }
    it
}

#[cfg(test)]
pub(super) mod tests_of_filters {
    use super::*;

    /// The decision on a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::sandbox) enum Verdict {
        Allowed,
        Refused,
        Unknown,
    }

    /// Runs a program as the kernel does, which is the only way to look at one for a machine that is not
    /// here.
    pub(in crate::sandbox) fn run(
        program: &[Instruction],
        architecture: u32,
        call: u32,
        arguments: [u64; 6],
    ) -> Verdict {
        let word = |offset: u32| match offset {
            NUMBER => call,
            ARCHITECTURE => architecture,
            _ => {
                let at = offset - ARGUMENTS;
                let argument = arguments[(at / 8) as usize];
                u32::try_from(if at % 8 == 0 { argument & 0xFFFF_FFFF } else { argument >> 32 }).unwrap()
            }
        };
        let (mut at, mut value) = (0_usize, 0_u32);
        loop {
            let it = program[at];
            at += 1;
            let branch = |met: bool| usize::from(if met { it.jt } else { it.jf });
            match it.code {
                LOAD => value = word(it.k),
                AND => value &= it.k,
                IF_EQUAL => at += branch(value == it.k),
                IF_ABOVE => at += branch(value > it.k),
                IF_NOT_BELOW => at += branch(value >= it.k),
                RETURN if it.k == ALLOW => return Verdict::Allowed,
                RETURN if it.k == REFUSE => return Verdict::Refused,
                RETURN if it.k == UNKNOWN => return Verdict::Unknown,
                code => panic!("no such instruction: {code}"),
            }
        }
    }

    const ARCHITECTURES: [u32; 2] = [0xC000_003E, 0x4000_0028];

    fn list() -> List {
        List {
            plain: vec![7, 5, 6, 0, 300, 12, 302],
            guarded: vec![
                Guarded {
                    call: 9,
                    cases: vec![vec![Test::is(0, 1), Test::bits(1, 0xF0, 0x20)], vec![Test::is(0, 2)]],
                },
                Guarded { call: 10, cases: vec![Test::null(4).to_vec()] },
                Guarded { call: 11, cases: Vec::new() },
            ],
            unknown: vec![435],
        }
    }

    #[test]
    fn numbers_become_the_fewest_ranges() {
        assert_eq!(ranges(&[7, 5, 6, 0, 300, 5]), [(0, 0), (5, 7), (300, 300)]);
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[u32::MAX, u32::MAX - 1]), [(u32::MAX - 1, u32::MAX)]);
    }

    #[test]
    fn listed_calls_are_allowed_and_no_others() {
        let list = list();
        for architecture in ARCHITECTURES {
            let program = program(&list, architecture);
            for call in (0..500).chain([u32::MAX, 0x4000_0005, 0xF_0005]) {
                let expected = match call {
                    _ if list.plain.contains(&call) => Verdict::Allowed,
                    435 => Verdict::Unknown,
                    _ => Verdict::Refused,
                };
                assert_eq!(run(&program, architecture, call, [0xFFFF_FFFF_0000_0003; 6]), expected, "{call}");
            }
            // Numbers mean something else on another architecture.
            assert_eq!(run(&program, architecture ^ 1, 5, [0; 6]), Verdict::Refused);
        }
    }

    #[test]
    fn a_guarded_call_is_allowed_with_the_arguments_of_one_case() {
        let program = program(&list(), ARCHITECTURES[0]);
        let call = |call, arguments| run(&program, ARCHITECTURES[0], call, arguments) == Verdict::Allowed;
        assert!(call(9, [1, 0x2F, 0, 0, 0, 0]));
        assert!(call(9, [0xFFFF_FFFF_0000_0002, 0, 0, 0, 0, 0]), "the upper half of an int is nothing");
        assert!(!call(9, [1, 0x1F, 0, 0, 0, 0]) && !call(9, [3, 0x20, 0, 0, 0, 0]));
        assert!(call(10, [9, 9, 9, 9, 0, 9]));
        assert!(!call(10, [9, 9, 9, 9, 1, 9]) && !call(10, [9, 9, 9, 9, 1 << 32, 9]));
        assert!(!call(11, [0; 6]));
    }
}
