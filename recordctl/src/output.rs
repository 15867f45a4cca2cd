//! Output for people: aligned fields and tables, human durations and sizes, JSON for scripts.
//!
//! Invariant: text from outside (names, numbers, file names) reaches a terminal without harmful characters
//! ([`recfile::text`]), even if a caller forgot to clean it.

use super::failure::Failure;
use os::terminal_columns;
use recfile::text::{shown, shown_json, shown_lines};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// Cells of the level meter where there is room.
pub(super) const METER_CELLS: usize = 20;
/// Columns that may be used of a terminal that does not tell how many it has.
const USUAL_COLUMNS: usize = 79;
/// Level of an empty meter.
const METER_FLOOR_DBFS: f64 = -60.0;

/// Writes one line to stdout at once.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    raw_line(&shown_lines(text))
}

/// Writes a JSON text that came as one line.
pub(super) fn json_line(json: &str) -> Result<(), Failure> {
    raw_line(&shown_json(json, std::io::stdout().is_terminal()))
}

/// Writes text of this program unchanged, such as shell scripts with their tabs.
pub(super) fn raw_line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Writes `value` to stdout: indented on a terminal, otherwise on one line.
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    let for_terminal = std::io::stdout().is_terminal();
    let json = if for_terminal { format!("{value:#}") } else { value.to_string() };
    raw_line(&shown_json(&json, for_terminal))
}

/// A line that is redrawn in place on a terminal and is a line each time elsewhere.
#[derive(Debug)]
pub(super) struct LiveLine {
    in_place: bool,
    drawn: bool,
}

impl LiveLine {
    pub(super) fn new() -> Self {
        Self { in_place: std::io::stdout().is_terminal(), drawn: false }
    }

    /// Columns that a text may take without going on in the next line; none where each text is a line of its
    /// own. Asked each time: windows are made wider and narrower.
    pub(super) fn columns(&self) -> Option<usize> {
        // In the last column the cursor would stand in the next line, on some terminals.
        self.in_place
            .then(|| terminal_columns(std::io::stdout().as_fd()).map_or(USUAL_COLUMNS, |all| all - 1))
    }

    pub(super) fn show(&mut self, text: &str) -> Result<(), Failure> {
        let Some(columns) = self.columns() else { return line(text) };
        self.drawn = true;
        let mut stdout = std::io::stdout().lock();
        // Erase to the end of the line: the new text may be shorter.
        write!(stdout, "\r{}\x1b[K", cut(&shown(text), columns))?;
        Ok(stdout.flush()?)
    }

    /// Leaves the line as it stands, so that the next output begins on a line of its own.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.drawn) { line("") } else { Ok(()) }
    }
}

/// As much of `text` as has room in `columns`; each character outside ASCII may take two.
fn cut(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += if c.is_ascii() { 1 } else { 2 };
        taken > columns
    });
    end.map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}

/// `text` as a terminal may get it: a caller's name must not drive it, nor show another number than his.
pub(super) fn clean(text: &str) -> String {
    shown(text).into_owned()
}

/// `0:07`, `12:34`, `1:02:03`.
pub(super) fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// `950 B`, `1.5 MiB`, `29.8 GiB`.
pub(super) fn size(octets: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = octets as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{octets} B") } else { format!("{value:.1} {unit}") }
}

/// `45 s`, `12 min`, `3 h 05 min`, `12 d 3 h`.
pub(super) fn long_time(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match minutes {
        0 => format!("{} s", span.as_secs()),
        1..=59 => format!("{minutes} min"),
        60..=2879 => format!("{} h {:02} min", minutes / 60, minutes % 60),
        _ => format!("{} d {} h", minutes / 1440, minutes / 60 % 24),
    }
}

/// `######------`: the level above -60 dBFS as a bar of `cells`.
pub(super) fn meter(level_dbfs: f64, cells: usize) -> String {
    (1..=cells)
        .map(|cell| {
            #[expect(clippy::cast_precision_loss, reason = "a few cells")]
            let lit_from = METER_FLOOR_DBFS * (1.0 - cell as f64 / cells as f64);
            if level_dbfs >= lit_from { '#' } else { '-' }
        })
        .collect()
}

/// Names and values below one another, values aligned; values are cleaned, empty ones left out.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn add(&mut self, name: impl Into<String>, value: impl AsRef<str>) -> &mut Self {
        if !value.as_ref().is_empty() {
            self.0.push((name.into(), clean(value.as_ref())));
        }
        self
    }

    /// Adds the leaves of a JSON value under dotted names.
    pub(super) fn add_leaves(&mut self, prefix: &str, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    self.add_leaves(&name, member);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add_leaves(&format!("{prefix}.{index}"), item);
                }
            }
            Value::Null => {}
            Value::String(text) => {
                self.add(prefix, text);
            }
            other => {
                self.add(prefix, other.to_string());
            }
        }
    }

    pub(super) fn render(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let lines: Vec<_> = self.0.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
        lines.join("\n")
    }
}

/// Columns as wide as their widest cell; cells are cleaned.
#[derive(Debug)]
pub(super) struct Table {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Align {
    Left,
    Right,
}

impl Table {
    pub(super) fn new(heads: &[(&'static str, Align)]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: &[String]) {
        self.rows.push(cells.iter().map(|cell| clean(cell)).collect());
    }

    pub(super) fn render(&self) -> String {
        let heads: Vec<String> = self.heads.iter().map(|(head, _)| (*head).to_owned()).collect();
        let rows = || std::iter::once(&heads).chain(&self.rows);
        let width = |column: usize| rows().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..heads.len()).map(width).collect();
        let render_row = |row: &Vec<String>| {
            let cells =
                row.iter().zip(&widths).zip(&self.heads).map(|((cell, width), (_, align))| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        rows().map(render_row).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_and_sizes_read_like_a_persons() {
        assert_eq!(
            (clock(7_900), clock(754_000), clock(3_723_000)),
            ("0:07".into(), "12:34".into(), "1:02:03".into())
        );
        assert_eq!((size(950), size(1_572_864)), ("950 B".into(), "1.5 MiB".into()));
        assert_eq!(long_time(Duration::from_secs(3 * 3600 + 300)), "3 h 05 min");
        assert_eq!(long_time(Duration::from_secs(12 * 86_400 + 3 * 3600)), "12 d 3 h");
    }

    #[test]
    fn the_meter_is_empty_at_silence_and_full_at_full_scale() {
        assert_eq!(meter(-90.0, METER_CELLS), "-".repeat(20));
        assert_eq!(meter(0.0, METER_CELLS), "#".repeat(20));
        assert_eq!(meter(-30.0, METER_CELLS).matches('#').count(), 10);
    }

    #[test]
    fn text_that_has_no_room_is_cut_off_between_characters() {
        assert_eq!((cut("abcd", 4), cut("abcd", 3), cut("", 0)), ("abcd", "abc", ""));
        assert_eq!((cut("äöü", 6), cut("äöü", 5), cut("äöü", 1)), ("äöü", "äö", ""));
    }

    #[test]
    fn a_callers_name_cannot_drive_the_terminal() {
        assert_eq!(clean("+49\u{202e}30\u{200b}\u{9b}2J\u{2028}"), "+49\u{fffd}30\u{fffd}\u{fffd}2J\u{fffd}");
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(&["Zoë\x1b[2J".into(), "7".into()]);
        table.row(&["Al".into(), "12".into()]);
        assert_eq!(table.render(), "NAME      N\nZoë\u{FFFD}[2J   7\nAl       12");
    }

    #[test]
    fn counters_of_any_shape_become_dotted_fields() {
        let mut fields = Fields::default();
        fields.add_leaves("", &json!({"packets": {"lost": 3}, "disks": ["a"], "none": null}));
        assert_eq!(fields.render(), "disks.0       a\npackets.lost  3");
    }
}
