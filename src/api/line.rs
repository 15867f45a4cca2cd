//! From octets as they come to whole lines.
//!
//! Owns: line ends, the length limit, the octets of a line that is not complete yet.
//! Invariants: at most [`MAX_PENDING_OCTETS`] are kept; how the octets were split makes no difference.

/// Longest line, without its LF.
pub const MAX_LINE_OCTETS: usize = 64 * 1024;

/// Octets that may wait while a client's requests are not taken (it reads no answers).
pub const MAX_PENDING_OCTETS: usize = 4 * MAX_LINE_OCTETS;

/// The result of [`LineBuffer::next_line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'b> {
    /// A line that is not empty, without its line end.
    Text(&'b [u8]),
    /// A line over [`MAX_LINE_OCTETS`], told once and skipped up to its end.
    TooLong,
}

/// More than [`MAX_PENDING_OCTETS`] wait: the sender is to be disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overfull;

/// Cuts a stream into lines; ends are LF or CR LF, empty lines are left out.
#[derive(Debug, Default)]
pub struct LineBuffer {
    octets: Vec<u8>,
    /// The start of the next line.
    start: usize,
    /// Up to where no LF was found.
    scanned: usize,
    /// Inside a line that is too long.
    skipping: bool,
}

impl LineBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the octets received.
    ///
    /// # Errors
    /// [`Overfull`] if lines were not taken out with [`Self::next_line`]; then nothing is taken.
    pub fn push(&mut self, octets: &[u8]) -> Result<(), Overfull> {
        let octets = if self.skipping {
            match octets.iter().position(|octet| *octet == b'\n') {
                None => return Ok(()),
                Some(end) => {
                    self.skipping = false;
                    &octets[end + 1..]
                }
            }
        } else {
            octets
        };
        if self.pending_octets() + octets.len() > MAX_PENDING_OCTETS {
            return Err(Overfull);
        }
        self.octets.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.octets.extend_from_slice(octets);
        Ok(())
    }

    /// The next whole line, `None` until more comes.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        loop {
            let Some(found) = self.octets[self.scanned..].iter().position(|octet| *octet == b'\n') else {
                return self.rest_without_end();
            };
            let (start, end) = (self.start, self.scanned + found);
            self.start = end + 1;
            self.scanned = self.start;
            if end - start > MAX_LINE_OCTETS {
                return Some(Line::TooLong);
            }
            let line = &self.octets[start..end];
            let length = line.strip_suffix(b"\r").unwrap_or(line).len();
            if length > 0 {
                return Some(Line::Text(&self.octets[start..start + length]));
            }
        }
    }

    /// Octets kept at this moment.
    #[must_use]
    pub fn pending_octets(&self) -> usize {
        self.octets.len() - self.start
    }

    fn rest_without_end(&mut self) -> Option<Line<'_>> {
        self.scanned = self.octets.len();
        if self.pending_octets() <= MAX_LINE_OCTETS {
            return None;
        }
        self.octets.clear();
        self.start = 0;
        self.scanned = 0;
        self.skipping = true;
        Some(Line::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Owned {
        Text(Vec<u8>),
        TooLong,
    }

    fn lines_of<'c>(chunks: impl Iterator<Item = &'c [u8]>) -> Vec<Owned> {
        let mut buffer = LineBuffer::new();
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.push(chunk).unwrap();
            while let Some(line) = buffer.next_line() {
                lines.push(match line {
                    Line::Text(text) => Owned::Text(text.to_vec()),
                    Line::TooLong => Owned::TooLong,
                });
            }
            assert!(buffer.pending_octets() <= MAX_LINE_OCTETS);
        }
        lines
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_empty_ones_are_left_out() {
        let text: &[u8] = b"a\n\n\r\nb\r\n \nc";
        let expected = [b"a", b"b", b" "].map(|text| Owned::Text(text.to_vec()));
        assert_eq!(lines_of([text].into_iter()), expected);
    }

    #[test]
    fn a_line_may_be_64_kib_long_and_not_one_octet_more() {
        let mut text = vec![b'x'; MAX_LINE_OCTETS];
        text.push(b'\n');
        assert_eq!(lines_of([&text[..]].into_iter()), [Owned::Text(vec![b'x'; MAX_LINE_OCTETS])]);
        text.insert(0, b'x');
        text.extend_from_slice(b"next\n");
        for size in [1000, 65_536, 65_537, 65_538, 70_000] {
            assert_eq!(lines_of(text.chunks(size)), [Owned::TooLong, Owned::Text(b"next".to_vec())]);
        }
    }

    #[test]
    fn an_endless_line_is_told_once_and_keeps_no_memory() {
        let chunk = vec![b'x'; 10_000];
        assert_eq!(lines_of(std::iter::repeat_n(&chunk[..], 100)), [Owned::TooLong]);
    }

    #[test]
    fn lines_that_nobody_takes_are_refused_beyond_the_limit() {
        let mut buffer = LineBuffer::new();
        let chunk = [b'\n'; 4096];
        let taken = (0..1000).take_while(|_| buffer.push(&chunk).is_ok()).count();
        assert_eq!(taken, MAX_PENDING_OCTETS / chunk.len());
        assert_eq!(buffer.pending_octets(), MAX_PENDING_OCTETS);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_gives_the_same_lines(
            parts in prop::collection::vec((prop::sample::select(vec!["\n", "\r\n", "ab\r", "{}"]), 1..40_000usize), 0..8),
            size in 1..70_000usize,
        ) {
            let text = parts.iter().map(|(part, times)| part.repeat(*times)).collect::<String>().into_bytes();
            let expected = lines_of(text.chunks(65_536));
            prop_assert_eq!(lines_of(text.chunks(size)), expected);
        }

        #[test]
        fn any_octets_are_taken_apart_as_a_plain_split_would(text in prop::collection::vec(any::<u8>(), 0..500), size in 1..50usize) {
            let ended = text.iter().rposition(|octet| *octet == b'\n').map_or(&[][..], |end| &text[..end]);
            let expected: Vec<Owned> = ended
                .split(|octet| *octet == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .filter(|line| !line.is_empty())
                .map(|line| Owned::Text(line.to_vec()))
                .collect();
            prop_assert_eq!(lines_of(text.chunks(size)), expected);
        }
    }
}
