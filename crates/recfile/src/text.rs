//! Text that others chose: numbers and names of callers, words of a server, names of files on a stick.
//!
//! Owns: the harmful characters, the part of a text that is kept, and how it is shown. A harmful character
//! moves the cursor, forges a line, reverses the text around it, or can't be seen: controls (C0, DEL, C1),
//! line and paragraph separators, bidirectional and invisible marks. Joiners stay where a script or an emoji
//! needs them. Never: refuses. A caller decides what he calls himself, and nothing else.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Stands for a character that can't be read or shown.
pub const REPLACEMENT: char = '\u{FFFD}';

/// Characters outside ASCII that can't be seen or that change the text around them, in order: general
/// category Cf, line and paragraph separators, fillers and tags (Unicode 16), and the code points that never
/// are characters.
const MARKS: [(char, char); 36] = [
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{600}', '\u{605}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{6DD}', '\u{6DD}'),
    ('\u{70F}', '\u{70F}'),
    ('\u{890}', '\u{891}'),
    ('\u{8E2}', '\u{8E2}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{2028}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FDD0}', '\u{FDEF}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{FFFE}', '\u{FFFF}'),
    ('\u{110BD}', '\u{110BD}'),
    ('\u{110CD}', '\u{110CD}'),
    ('\u{13430}', '\u{1343F}'),
    ('\u{16FE4}', '\u{16FE4}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D159}', '\u{1D159}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{1FFFE}', '\u{1FFFF}'),
    ('\u{2FFFE}', '\u{2FFFF}'),
    ('\u{3FFFE}', '\u{3FFFF}'),
    ('\u{4FFFE}', '\u{DFFFF}'),
    ('\u{E0000}', '\u{E0FFF}'),
    ('\u{EFFFE}', '\u{EFFFF}'),
    ('\u{FFFFE}', '\u{10FFFF}'),
];

/// The effect of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// It is harmless.
    None,
    /// It moves the cursor or begins a line.
    Moves,
    /// It can't be seen, or changes the text around it.
    Hides,
}

/// The text before a character, as far as joiners and variation selectors need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Before {
    /// Nothing that they have a meaning behind.
    #[default]
    Other,
    /// A character outside ASCII.
    Base,
    /// One, and its variation selector.
    Selected,
}

/// Judges the characters of one text, one after another.
#[derive(Debug, Default)]
struct Judge(Before);

impl Judge {
    fn effect(&mut self, c: char) -> Effect {
        let before = std::mem::take(&mut self.0);
        if c.is_ascii() {
            return if c.is_ascii_control() { Effect::Moves } else { Effect::None };
        }
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            return Effect::Moves;
        }
        match c {
            '\u{200C}' | '\u{200D}' if before != Before::Other => return Effect::None,
            '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}' if before == Before::Base => {
                self.0 = Before::Selected;
                return Effect::None;
            }
            _ => {}
        }
        let found = MARKS.partition_point(|(_, last)| *last < c);
        if MARKS.get(found).is_some_and(|(first, _)| *first <= c) {
            return Effect::Hides;
        }
        self.0 = Before::Base;
        Effect::None
    }
}

/// Whether nothing in `text` does harm.
#[must_use]
pub fn is_harmless(text: &str) -> bool {
    let mut judge = Judge::default();
    text.chars().all(|c| judge.effect(c) == Effect::None)
}

/// The kept part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The text without harmful characters.
    pub text: String,
    /// Whether it is another one than was said, here or where octets that are no text became U+FFFD.
    pub altered: bool,
}

/// The kept part of `text`: at most `max_chars` characters, blanks for those that move the cursor, nothing
/// for those that can't be seen.
#[must_use]
pub fn kept(text: &str, max_chars: usize) -> Kept {
    let mut judge = Judge::default();
    let mut kept =
        Kept { text: String::with_capacity(text.len().min(max_chars.saturating_mul(4))), altered: false };
    let mut room = max_chars;
    for c in text.chars() {
        if room == 0 {
            kept.altered = true;
            break;
        }
        let effect = judge.effect(c);
        kept.altered |= effect != Effect::None || c == REPLACEMENT;
        match effect {
            Effect::None => kept.text.push(c),
            Effect::Moves => kept.text.push(' '),
            Effect::Hides => continue,
        }
        room -= 1;
    }
    if room == 0 && kept.altered && kept.text.ends_with(['\u{200C}', '\u{200D}']) {
        // The character that it joined has been cut off.
        kept.text.pop();
    }
    kept
}

/// `text` as a terminal may get it, on one line: U+FFFD for each character that does harm.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    replaced(text, |_| false)
}

/// The same for text of several lines.
#[must_use]
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c == '\n')
}

fn replaced(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if is_harmless(text) {
        return Cow::Borrowed(text);
    }
    let mut judge = Judge::default();
    let shown = text.chars().map(|c| match judge.effect(c) {
        Effect::None => c,
        _ if stays(c) => c,
        _ => REPLACEMENT,
    });
    Cow::Owned(shown.collect())
}

/// `text` as a log may have it, on one line: harmful characters are escaped as Rust does it, such as `\n` and
/// `\u{202e}`.
#[must_use]
pub fn logged(text: &str) -> Cow<'_, str> {
    if is_harmless(text) {
        return Cow::Borrowed(text);
    }
    let mut judge = Judge::default();
    let mut logged = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match judge.effect(c) {
            Effect::None => logged.push(c),
            _ if c.is_ascii() => logged.extend(c.escape_default()),
            _ => logged.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(logged)
}

/// The JSON text `json` with the same meaning and without harmful characters: they are escaped as `\u202e`.
/// For a terminal all characters but ASCII are, because some terminals reverse even letters of another
/// script.
#[must_use]
pub fn shown_json(json: &str, for_terminal: bool) -> Cow<'_, str> {
    let mut judge = Judge::default();
    // Line ends stand between the members; within a string serde_json escapes them.
    let mut escape = |c: char| match judge.effect(c) {
        Effect::None => for_terminal && !c.is_ascii(),
        _ => !matches!(c, '\n' | '\r' | '\t'),
    };
    if !json.chars().any(&mut escape) {
        return Cow::Borrowed(json);
    }
    let mut judge = Judge::default();
    let mut shown = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        let effect = judge.effect(c);
        let plain = match effect {
            Effect::None => !for_terminal || c.is_ascii(),
            _ => matches!(c, '\n' | '\r' | '\t'),
        };
        if plain {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String has no way to fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

/// A line that ought to be JSON in UTF-8 and has strings that are not: octets that are no text become U+FFFD,
/// control characters within strings are escaped. Errors outside of strings stay.
#[must_use]
pub fn mended_json(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if !text.bytes().any(|octet| octet < b' ') {
        return text;
    }
    let mut mended = String::with_capacity(text.len() + 16);
    let (mut in_string, mut after_backslash) = (false, false);
    for c in text.chars() {
        if in_string && c < ' ' {
            let _ = write!(mended, "{}u{:04x}", if after_backslash { "" } else { "\\" }, u32::from(c));
            after_backslash = false;
            continue;
        }
        mended.push(c);
        match c {
            _ if after_backslash => after_backslash = false,
            '\\' => after_backslash = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
    }
    Cow::Owned(mended)
}

/// The JSON text `json` with U+FFFD for each half of a surrogate pair that stands alone: a name that was cut
/// in the middle of an emoji.
#[must_use]
pub fn paired_json(json: &str) -> Cow<'_, str> {
    let octets = json.as_bytes();
    let mut alone: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(found) = octets.get(at..).and_then(|rest| rest.iter().position(|&octet| octet == b'\\')) {
        let escape = at + found;
        at = match escaped_unit(octets, escape) {
            None => escape + 2,
            Some(0xD800..=0xDBFF) => match escaped_unit(octets, escape + 6) {
                Some(0xDC00..=0xDFFF) => escape + 12,
                _ => {
                    alone.push(escape);
                    escape + 6
                }
            },
            Some(0xDC00..=0xDFFF) => {
                alone.push(escape);
                escape + 6
            }
            Some(_) => escape + 6,
        };
    }
    if alone.is_empty() {
        return Cow::Borrowed(json);
    }
    let mut paired = String::with_capacity(json.len());
    let mut from = 0;
    for escape in alone {
        // An escape is ASCII, so both ends are borders of characters.
        paired.push_str(json.get(from..escape).unwrap_or_default());
        paired.push_str("\\ufffd");
        from = escape + 6;
    }
    paired.push_str(json.get(from..).unwrap_or_default());
    Cow::Owned(paired)
}

/// The UTF-16 unit of the escape `\uXXXX` at `at`.
fn escaped_unit(octets: &[u8], at: usize) -> Option<u16> {
    let digits = octets.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HARMFUL: [&str; 20] = [
        "\n",
        "\r",
        "\x1b",
        "\x7f",
        "\u{85}",
        "\u{9b}",
        "\u{ad}",
        "\u{61c}",
        "\u{200b}",
        "\u{200e}",
        "\u{2028}",
        "\u{202e}",
        "\u{2060}",
        "\u{2066}",
        "\u{3164}",
        "\u{feff}",
        "\u{fff9}",
        "\u{fe0f}",
        "\u{e0041}",
        "\u{e0100}",
    ];

    #[test]
    fn the_marks_are_in_order_and_do_not_overlap() {
        assert!(MARKS.iter().all(|(first, last)| first <= last));
        assert!(MARKS.windows(2).all(|pair| pair[0].1 < pair[1].0));
    }

    #[test]
    fn harmful_characters_are_not_kept_and_never_shown() {
        for harm in HARMFUL {
            let text = format!("A{harm}Z");
            let kept = kept(&text, 256);
            assert!(kept.altered && is_harmless(&kept.text), "{harm:?}");
            assert!(kept.text == "AZ" || kept.text == "A Z", "{harm:?} gives {:?}", kept.text);
            assert_eq!(shown(&text), "A\u{fffd}Z", "{harm:?}");
            assert!(is_harmless(&logged(&text)) && logged(&text).contains('\\'), "{harm:?}");
        }
    }

    #[test]
    fn names_of_all_scripts_are_kept_as_they_are() {
        let family = "\u{1F469}\u{200D}\u{1F469}\u{200D}\u{1F467}";
        let heart = "\u{2764}\u{FE0F}\u{200D}\u{1F525}";
        for name in [
            "Zoë \"Z\" O'Neil",
            "+49 30 1234-56",
            "می‌خواهم",
            "श्री",
            "ක්‍ර",
            "山田 太郎",
            "葛\u{E0100}城",
            family,
            heart,
            "עברית",
            "Å\u{30a}",
        ] {
            assert_eq!(kept(name, 256), Kept { text: name.into(), altered: false });
            assert_eq!((shown(name), logged(name)), (name.into(), name.into()));
        }
    }

    #[test]
    fn a_joiner_that_joins_nothing_is_a_mark_like_others() {
        assert_eq!(kept("4\u{200D}9 3\u{200C}0", 256).text, "49 30");
        assert_eq!(kept("你\u{200D}\u{200D}\u{200C}好", 256).text, "你\u{200D}好");
        assert_eq!(kept("☎\u{FE0F}\u{FE0F}\u{E0100}", 256).text, "☎\u{FE0F}");
    }

    #[test]
    fn a_text_is_cut_at_a_character_and_not_behind_a_joiner() {
        assert_eq!(kept("äöü", 3), Kept { text: "äöü".into(), altered: false });
        assert_eq!(kept("äöüß", 3), Kept { text: "äöü".into(), altered: true });
        assert_eq!(
            kept("ab\u{1F469}\u{200D}\u{1F467}", 4),
            Kept { text: "ab\u{1F469}".into(), altered: true }
        );
        assert_eq!(kept("", 0), Kept { text: String::new(), altered: false });
    }

    #[test]
    fn a_text_that_was_no_text_counts_as_altered() {
        assert!(kept("M\u{fffd}ller", 256).altered);
    }

    #[test]
    fn json_for_a_terminal_is_ascii_and_means_the_same() {
        let value = serde_json::json!({ "name": "Zoë \u{202e}\u{9b}\x7f\u{1F469}\n", "list": ["\u{2028}"] });
        for text in [value.to_string(), format!("{value:#}")] {
            let piped = shown_json(&text, false);
            assert!(piped.contains("Zoë \\u202e\\u009b\\u007f") && !piped.contains('\u{2028}'), "{piped}");
            let terminal = shown_json(&text, true);
            assert!(terminal.is_ascii() && !terminal.contains('\x7f'), "{terminal}");
            for shown in [piped, terminal] {
                assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
            }
        }
    }

    #[test]
    fn a_line_of_json_is_mended_within_its_strings_only() {
        let mended = |line: &[u8]| {
            serde_json::from_str::<serde_json::Value>(&mended_json(line)).map(|v| v.to_string())
        };
        assert_eq!(mended(b"{\"a\":\"M\xfcller\"}").unwrap(), "{\"a\":\"M\u{fffd}ller\"}");
        assert_eq!(mended(b"{\"a\":\"cut \xf0\x9f\x98\"}").unwrap(), "{\"a\":\"cut \u{fffd}\"}");
        assert_eq!(mended(b"{\t\"a\\\"\":\t\"x\ty\x1bz\x01\"}").unwrap(), r#"{"a\"":"x\ty\u001bz\u0001"}"#);
        for line in [&b"{\"a\":\xff}"[..], b"{\"a\xff:1}", b"{\x01}", b"{\"a\":\"\\\xff\"}"] {
            assert!(mended(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_becomes_a_character_and_a_whole_one_stays() {
        for (json, expected) in [
            (r#""Anna \ud83d""#, "Anna \u{fffd}"),
            (r#""\ude00x""#, "\u{fffd}x"),
            (r#""\ud83d\ude00""#, "\u{1F600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1F600}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\\\uD83D\\""#, "\\\u{fffd}\\"),
        ] {
            assert_eq!(serde_json::from_str::<String>(&paired_json(json)).unwrap(), expected, "{json}");
        }
        assert!(serde_json::from_str::<String>(&paired_json(r#""\ud83""#)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_harmless_when_kept_or_shown(text in any::<String>(), max in 0..40usize) {
            let kept = kept(&text, max);
            prop_assert!(is_harmless(&kept.text) && kept.text.chars().count() <= max);
            prop_assert!(kept.altered || kept.text == text);
            prop_assert!(is_harmless(&shown(&text)) && is_harmless(&logged(&text)));
            prop_assert_eq!(shown(&text).chars().count(), text.chars().count());
        }

        #[test]
        fn any_json_means_the_same_when_it_is_shown(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            for terminal in [false, true] {
                prop_assert_eq!(&serde_json::from_str::<String>(&shown_json(&json, terminal)).unwrap(), &text);
            }
        }

        #[test]
        fn good_json_is_not_mended(text in any::<String>()) {
            let json = serde_json::to_string(&[text]).unwrap();
            prop_assert_eq!(&*mended_json(json.as_bytes()), &*json);
            prop_assert_eq!(&*paired_json(&json), &*json);
        }

        #[test]
        fn any_octets_within_a_string_are_accepted(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let octets: Vec<u8> = octets.into_iter().filter(|octet| !matches!(octet, b'"' | b'\\' | b'\n')).collect();
            let line = [b"\"", &octets[..], b"\""].concat();
            prop_assert!(serde_json::from_str::<String>(&mended_json(&line)).is_ok());
        }
    }
}
