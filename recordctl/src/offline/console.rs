//! The output of the file commands: results to stdout, reasons and progress to stderr.
//!
//! Invariant: text from outside (file names, callers' names) reaches a terminal without harmful characters
//! ([`recfile::text`]), even if a caller forgot to clean it.

use recfile::text::{shown, shown_json, shown_lines};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// The two outputs and whether something went wrong.
pub(super) struct Console<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    show_progress: bool,
    /// The result goes to a terminal.
    for_terminal: bool,
    progress_shown: String,
    failed: bool,
    /// The result can't be written; that is said once.
    out_failed: bool,
}

impl<'a> Console<'a> {
    pub(super) fn new(out: &'a mut dyn Write, err: &'a mut dyn Write, show_progress: bool) -> Self {
        Self {
            out,
            err,
            show_progress,
            for_terminal: false,
            progress_shown: String::new(),
            failed: false,
            out_failed: false,
        }
    }

    /// Runs a command on the process's own outputs.
    pub(super) fn with_stdio(command: impl FnOnce(&mut Console<'_>)) -> ExitCode {
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        let show_progress = err.is_terminal();
        let for_terminal = out.is_terminal();
        let mut console = Console::new(&mut out, &mut err, show_progress);
        console.for_terminal = for_terminal;
        command(&mut console);
        console.exit_code()
    }

    /// One line of the result.
    pub(super) fn line(&mut self, text: &str) {
        self.raw_line(&shown_lines(text));
    }

    fn raw_line(&mut self, text: &str) {
        self.clear_progress();
        let Err(error) = writeln!(self.out, "{text}").and_then(|()| self.out.flush()) else { return };
        // A reader that has gone (`| head`) wants no more; the exit status tells.
        if error.kind() != io::ErrorKind::BrokenPipe && !self.out_failed {
            self.remark(&format!("cannot write the result: {error}"));
        }
        self.out_failed = true;
        self.failed = true;
    }

    /// The result for scripts.
    pub(super) fn json(&mut self, value: &serde_json::Value) {
        self.raw_line(&shown_json(&format!("{value:#}"), self.for_terminal));
    }

    /// A remark that changes nothing about success.
    pub(super) fn remark(&mut self, text: &str) {
        self.clear_progress();
        let _ = writeln!(self.err, "recordctl: {}", clean(text));
    }

    /// A reason for failure.
    pub(super) fn fail(&mut self, text: &str) {
        self.remark(text);
        self.failed = true;
    }

    /// Failure whose reason is part of the result.
    pub(super) fn set_failed(&mut self) {
        self.failed = true;
    }

    /// A line on the terminal that the next one replaces; nothing if stderr is none.
    pub(super) fn progress(&mut self, what: &str, done: u64, total: u64) {
        if !self.show_progress {
            return;
        }
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        let text = format!("{} {percent} %", shown(what));
        if text != self.progress_shown {
            let _ = write!(self.err, "\r\x1b[K{text}").and_then(|()| self.err.flush());
            self.progress_shown = text;
        }
    }

    pub(super) fn clear_progress(&mut self) {
        if !self.progress_shown.is_empty() {
            self.progress_shown.clear();
            let _ = write!(self.err, "\r\x1b[K").and_then(|()| self.err.flush());
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if self.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    #[cfg(test)]
    pub(super) fn failed(&self) -> bool {
        self.failed
    }
}

/// `text` as a terminal may get it, on one line.
pub(super) fn clean(text: &str) -> String {
    shown(text).into_owned()
}

/// `1:02:03.4`, or `0:07.0` under an hour.
pub(super) fn clock(ms: u64) -> String {
    let (tenths, seconds) = (ms / 100 % 10, ms / 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}.{tenths}")
    } else {
        format!("{minutes}:{seconds:02}.{tenths}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output that fails each time with `kind`.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_result_that_cannot_be_written_is_said_once_and_a_reader_that_has_gone_never() {
        for (kind, remarks) in [(io::ErrorKind::StorageFull, 1), (io::ErrorKind::BrokenPipe, 0)] {
            let (mut out, mut err) = (Failing(kind), Vec::new());
            let mut console = Console::new(&mut out, &mut err, false);
            console.line("one");
            console.line("two");
            assert!(console.failed());
            let said = String::from_utf8(err).unwrap();
            assert_eq!(said.lines().count(), remarks, "{said}");
            assert!(said.is_empty() || said.contains("cannot write the result: "), "{said}");
        }
    }

    #[test]
    fn a_result_has_nothing_that_does_harm_and_json_means_the_same() {
        let name = serde_json::json!({ "name": "Zoë \u{202e}\u{9b}2J\x7f" });
        for (for_terminal, json) in [
            (false, "{\n  \"name\": \"Zoë \\u202e\\u009b2J\\u007f\"\n}\n"),
            (true, "{\n  \"name\": \"Zo\\u00eb \\u202e\\u009b2J\\u007f\"\n}\n"),
        ] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut console = Console::new(&mut out, &mut err, false);
            console.for_terminal = for_terminal;
            console.json(&name);
            console.line("Zoë\u{2066}\n  7");
            assert_eq!(String::from_utf8(out).unwrap(), format!("{json}Zoë\u{fffd}\n  7\n"));
        }
    }

    #[test]
    fn errors_are_printed_without_control_characters() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console::new(&mut out, &mut err, false);
        console.remark("Record_\u{1b}[2J.wav");
        console.fail("Record_\u{7}.wav");
        assert_eq!(err, "recordctl: Record_\u{FFFD}[2J.wav\nrecordctl: Record_\u{FFFD}.wav\n".as_bytes());
    }
}
