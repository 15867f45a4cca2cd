//! Config files: from TOML to checked values, each error with its line and key.
//!
//! Owns: the lookup of a value, the wording of errors, the guess at a misspelt name ([`nearest`]). Never:
//! which sections and keys there are, or their meaning; each program knows its own.

use std::fmt;
use std::ops::Range;
use toml::Spanned;
/// A value as the text has it.
pub use toml::de::DeValue as Value;
use toml::de::{DeTable, DeValue};

/// The sections of a config, each with its keys: any other key is an error. The section `""` has the keys
/// that stand above all headers. `outer.inner` is a section within `outer`, which is listed as well.
pub type Sections = [(&'static str, &'static [&'static str])];

/// Longest word that a suggestion is looked for, in octets.
const MAX_MISSPELT_OCTETS: usize = 64;
/// Characters of a wrong value that an error repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// The known word that is spelt most like `word`, if at most four of ten letters differ.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > MAX_MISSPELT_OCTETS {
        return None;
    }
    let differing = |known: &'a str| (edits(word.as_bytes(), known.as_bytes()), known);
    let (edits, best) = known.map(differing).min_by_key(|(edits, _)| *edits)?;
    (edits * 10 <= word.len().max(best.len()) * 4).then_some(best)
}

/// Octets to insert, delete or replace until `from` is `to` (Levenshtein's distance).
fn edits(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (deleted, left) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], deleted + 1);
        for (column, right) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// A mistake in a config text, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// File name as given to the parser.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Section and key, such as `storage.buffer`, or the key alone; `None` if the text isn't TOML.
    pub key: Option<String>,
    /// The mistake, and the right value.
    pub problem: Problem,
}

/// The mistakes of a config text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not TOML.
    Syntax(String),
    /// There is no such section, or key in this section.
    Unknown {
        /// The name that was probably meant.
        suggestion: Option<&'static str>,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// The value has another TOML type.
    WrongType {
        /// The right value, in words.
        wanted: &'static str,
        /// TOML type found.
        found: &'static str,
    },
    /// The number or size is too small or too large.
    OutOfRange {
        /// The value as written.
        found: String,
        /// Lowest good value.
        lowest: u64,
        /// Highest good value.
        highest: u64,
    },
    /// The value can't be used.
    Invalid {
        /// The value as written.
        found: String,
        /// The right value, in words.
        wanted: String,
    },
    /// The value can't be used, in the words of who knows why.
    Refused(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(key) = &self.key {
            write!(f, "key `{key}`: ")?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => write!(f, "not valid TOML: {message}"),
            Self::Unknown { suggestion: Some(name), .. } => {
                write!(f, "unknown; did you mean `{name}`?")
            }
            Self::Unknown { suggestion: None, known } => {
                write!(f, "unknown; there are {}", known.join(", "))
            }
            Self::WrongType { wanted, found } => write!(f, "is of type {found}; write {wanted}"),
            Self::OutOfRange { found, lowest, highest } => {
                write!(f, "{found} is out of range; write a value from {lowest} to {highest}")
            }
            Self::Invalid { found, wanted } => write!(f, "{found:?} does not fit; write {wanted}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// A parsed text of which every section and key is a known one.
pub struct Document<'i> {
    sections: &'static Sections,
    /// Sections that may stand there several times, as `[[name]]`.
    lists: &'static Sections,
    file: &'i str,
    input: &'i str,
    root: Spanned<DeTable<'i>>,
}

impl<'i> Document<'i> {
    /// Reads `input`, which errors call `file`.
    ///
    /// # Errors
    /// A syntax error, or the first name that `sections` does not have.
    pub fn parse(input: &'i str, file: &'i str, sections: &'static Sections) -> Result<Self, ConfigError> {
        Self::parse_with_lists(input, file, sections, &[])
    }

    /// The same, where `lists` are sections that may stand there several times, as `[[name]]`.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn parse_with_lists(
        input: &'i str,
        file: &'i str,
        sections: &'static Sections,
        lists: &'static Sections,
    ) -> Result<Self, ConfigError> {
        let root = DeTable::parse(input).map_err(|error| {
            let at = error.span().map_or(input.len(), |span| span.start);
            let message = error.message().replace('\n', ", ");
            // Those who write a file mode write it so.
            let octal = message.contains("leading zero");
            let hint = octal.then(|| format!(": write it in quotes: \"{}\"", word_at(input, at)));
            let message = format!("{message}{}", hint.unwrap_or_default());
            ConfigError {
                file: file.to_owned(),
                line: line_of(input, at),
                key: None,
                problem: Problem::Syntax(message),
            }
        })?;
        let document = Self { sections, lists, file, input, root };
        document.check_names()?;
        Ok(document)
    }

    /// The section `name`, possibly an empty one.
    #[must_use]
    pub fn section<'d>(&'d self, name: &'static str) -> Section<'d, 'i> {
        if name.is_empty() {
            return Section { document: self, name, header: 0..0, table: Some(self.root.get_ref()) };
        }
        let mut table = Some(self.root.get_ref());
        let mut header = 0..0;
        for part in name.split('.') {
            let found = table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == part));
            header = found.map_or(header, |(key, _)| key.span());
            table = found.and_then(|(_, value)| value.get_ref().as_table());
        }
        Section { document: self, name, header, table }
    }

    /// The sections `[[name]]`, in order.
    #[must_use]
    pub fn list<'d>(&'d self, name: &'static str) -> Vec<Section<'d, 'i>> {
        let found = self.root.get_ref().iter().find(|(key, _)| key.get_ref() == name);
        let items = found.and_then(|(_, value)| value.get_ref().as_array());
        let section = |item: &'d Spanned<DeValue<'i>>| Section {
            document: self,
            name,
            header: item.span(),
            table: item.get_ref().as_table(),
        };
        items.into_iter().flat_map(|items| items.iter()).map(section).collect()
    }

    fn check_list(
        &self,
        name: &Spanned<toml::de::DeString<'i>>,
        value: &Spanned<DeValue<'i>>,
        keys: &[&'static str],
    ) -> Result<(), ConfigError> {
        let wrong = |found: &'static str| {
            let wanted = "a header in double brackets, such as [[name]], above the keys of each";
            let problem = Problem::WrongType { wanted, found };
            self.error(&name.span(), name.get_ref().to_string(), problem)
        };
        let items = value.get_ref().as_array().ok_or_else(|| wrong(value.get_ref().type_str()))?;
        for item in items {
            let table = item.get_ref().as_table().ok_or_else(|| wrong(item.get_ref().type_str()))?;
            if let Some(stray) = first_unknown(table, keys) {
                return Err(self.unknown(stray, format!("{}.{}", name.get_ref(), stray.get_ref()), keys));
            }
        }
        Ok(())
    }

    /// The names of the sections within one.
    fn within(&self, outer: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let inner = self.sections.iter().filter_map(|(name, _)| Some((*name, name.rsplit_once('.')?)));
        inner.filter(move |(_, (found, _))| *found == outer).map(|(whole, (_, inner))| (whole, inner))
    }

    fn check_section(&self, section: &'static str, table: &DeTable<'i>) -> Result<(), ConfigError> {
        let keys = self.sections.iter().find(|(name, _)| *name == section).map_or(&[][..], |(_, keys)| keys);
        let mut known = keys.to_vec();
        known.extend(self.within(section).map(|(_, inner)| inner));
        if let Some(stray) = first_unknown(table, &known) {
            return Err(self.unknown(stray, format!("{section}.{}", stray.get_ref()), &known));
        }
        for (whole, inner) in self.within(section) {
            let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == inner) else { continue };
            let Some(table) = value.get_ref().as_table() else {
                let wanted = "a section header, such as [outer.inner], above the keys";
                let problem = Problem::WrongType { wanted, found: value.get_ref().type_str() };
                return Err(self.error(&key.span(), whole.to_owned(), problem));
            };
            self.check_section(whole, table)?;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let outermost = |name: &str| !name.is_empty() && !name.contains('.');
        let sections = self.sections.iter().filter(|(name, _)| outermost(name));
        let above = self.sections.iter().filter(|(name, _)| name.is_empty());
        let known: Vec<&'static str> = above
            .flat_map(|(_, keys)| keys.iter())
            .chain(sections.chain(self.lists).map(|(name, _)| name))
            .copied()
            .collect();
        if let Some(stray) = first_unknown(self.root.get_ref(), &known) {
            return Err(self.unknown(stray, stray.get_ref().to_string(), &known));
        }
        for (name, value) in self.root.get_ref() {
            if let Some((_, keys)) = self.lists.iter().find(|(list, _)| name.get_ref() == list) {
                self.check_list(name, value, keys)?;
                continue;
            }
            let Some((section, _)) = self.sections.iter().find(|(section, _)| name.get_ref() == section)
            else {
                continue;
            };
            let Some(table) = value.get_ref().as_table() else {
                let wanted = "a section header, such as [storage], above the keys";
                let problem = Problem::WrongType { wanted, found: value.get_ref().type_str() };
                return Err(self.error(&name.span(), (*section).to_owned(), problem));
            };
            self.check_section(section, table)?;
        }
        Ok(())
    }

    fn unknown<T: AsRef<str>>(&self, stray: &Spanned<T>, key: String, known: &[&'static str]) -> ConfigError {
        let suggestion = nearest(stray.get_ref().as_ref(), known.iter().copied());
        let key = shortened(&key);
        self.error(&stray.span(), key, Problem::Unknown { suggestion, known: known.to_vec() })
    }

    fn error(&self, span: &Range<usize>, key: String, problem: Problem) -> ConfigError {
        ConfigError {
            file: self.file.to_owned(),
            line: line_of(self.input, span.start),
            key: Some(key),
            problem,
        }
    }
}

/// One section of a [`Document`].
pub struct Section<'d, 'i> {
    document: &'d Document<'i>,
    name: &'static str,
    /// Its header's place; an empty range at the beginning of the text if there is none.
    header: Range<usize>,
    table: Option<&'d DeTable<'i>>,
}

impl Section<'_, '_> {
    /// Replaces `into` by the value of `key`, if the text has one.
    ///
    /// # Errors
    /// The mistake that `convert` finds, with its place.
    pub fn read<T>(
        &self,
        key: &'static str,
        into: &mut T,
        convert: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) -> Result<(), ConfigError> {
        debug_assert!(
            self.document
                .sections
                .iter()
                .chain(self.document.lists)
                .any(|(name, keys)| *name == self.name && keys.contains(&key))
        );
        if let Some((_, value)) = self.find(key) {
            *into = convert(value.get_ref()).map_err(|problem| self.fail(key, problem))?;
        }
        Ok(())
    }

    /// Whether the text has it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// The error that `key` has this `problem`; its place is the section's beginning if it has no such key.
    #[must_use]
    pub fn fail(&self, key: &'static str, problem: Problem) -> ConfigError {
        let span = self.find(key).map_or(self.header.clone(), |(key, _)| key.span());
        let dot = if self.name.is_empty() { "" } else { "." };
        self.document.error(&span, format!("{}{dot}{key}", self.name), problem)
    }

    fn find(&self, key: &str) -> Option<(Spanned<&str>, &Spanned<DeValue<'_>>)> {
        let (name, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((Spanned::new(name.span(), name.get_ref().as_ref()), value))
    }
}

fn first_unknown<'t, 'i>(
    table: &'t DeTable<'i>,
    known: &[&'static str],
) -> Option<&'t Spanned<toml::de::DeString<'i>>> {
    table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())).min_by_key(|key| key.span().start)
}

/// The letters and digits around an octet of the text.
fn word_at(input: &str, at: usize) -> &str {
    let strange = |c: char| !c.is_ascii_alphanumeric();
    let start = input.get(..at).and_then(|before| before.rfind(strange)).map_or(0, |end| end + 1);
    let word = input.get(start..).unwrap_or_default();
    &word[..word.find(strange).unwrap_or(word.len())]
}

fn line_of(input: &str, at: usize) -> usize {
    1 + input.bytes().take(at).filter(|octet| *octet == b'\n').count()
}

fn shortened(found: &str) -> String {
    match found.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found.to_owned(),
    }
}

/// The value `found` can't be used, `wanted` could.
#[must_use]
pub fn invalid(found: &str, wanted: &str) -> Problem {
    Problem::Invalid { found: shortened(found), wanted: wanted.to_owned() }
}

/// A string.
///
/// # Errors
/// Another type.
pub fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Problem> {
    value.as_str().ok_or(Problem::WrongType { wanted: "a string in quotes", found: value.type_str() })
}

/// A truth value.
///
/// # Errors
/// Another type.
pub fn flag(value: &DeValue<'_>) -> Result<bool, Problem> {
    value.as_bool().ok_or(Problem::WrongType { wanted: "true or false", found: value.type_str() })
}

/// A whole number within these bounds.
///
/// # Errors
/// Another type, or a value out of range.
pub fn integer(value: &DeValue<'_>, lowest: u64, highest: u64) -> Result<u64, Problem> {
    let Some(integer) = value.as_integer() else {
        return Err(Problem::WrongType { wanted: "a whole number", found: value.type_str() });
    };
    match u64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if (lowest..=highest).contains(&number) => Ok(number),
        _ => Err(Problem::OutOfRange { found: shortened(integer.as_str()), lowest, highest }),
    }
}

/// A whole number within these bounds, as another type.
///
/// # Errors
/// Another type, or a value out of range.
pub fn number<T: TryFrom<u64>>(value: &DeValue<'_>, lowest: u64, highest: u64) -> Result<T, Problem> {
    let number = integer(value, lowest, highest)?;
    T::try_from(number).map_err(|_| Problem::OutOfRange { found: number.to_string(), lowest, highest })
}

/// Octets, as a whole number or as a string with or without `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// Another type, no size, or one out of range.
pub fn size<T: TryFrom<u64>>(value: &DeValue<'_>, lowest: u64, highest: u64) -> Result<T, Problem> {
    let DeValue::String(found) = value else {
        return match value {
            DeValue::Integer(_) => number(value, lowest, highest),
            _ => Err(Problem::WrongType { wanted: "a size such as \"4 MiB\"", found: value.type_str() }),
        };
    };
    let wrong =
        || invalid(found, "a size: a whole number of octets, or of KiB, MiB or GiB, such as \"512 MiB\"");
    let trimmed = found.trim();
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| trimmed.strip_suffix(unit).map(|digits| (digits.trim_end(), *shift)))
        .unwrap_or((trimmed, 0));
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(wrong());
    }
    let octets = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(1 << shift));
    octets
        .filter(|octets| (lowest..=highest).contains(octets))
        .and_then(|octets| T::try_from(octets).ok())
        .ok_or_else(|| Problem::OutOfRange { found: shortened(found), lowest, highest })
}

/// One of the named values.
///
/// # Errors
/// Another type or name.
pub fn choice<T: Copy>(value: &DeValue<'_>, names: &[(&'static str, T)]) -> Result<T, Problem> {
    let found = text(value)?;
    names.iter().find(|(name, _)| *name == found).map(|(_, it)| *it).ok_or_else(|| {
        let quoted: Vec<String> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        invalid(found, &quoted.join(" or "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_misspelt_word_and_suggests_nothing_for_another_one() {
        let known = ["listen", "storage", "mode", "sessions_per_address"];
        let of = |word| nearest(word, known.into_iter());
        assert_eq!(of("lisen"), Some("listen"));
        assert_eq!(of("storag"), Some("storage"));
        assert_eq!(of("sessions_per_adres"), Some("sessions_per_address"));
        assert_eq!(of("colour"), None);
        assert_eq!(of(""), None);
        assert_eq!(of(&"listen".repeat(20)), None);
    }

    const KEYS: &Sections = &[("", &["listen", "mode"]), ("log", &["level"])];

    #[test]
    fn keys_above_all_sections_are_read_and_named_without_one() {
        let document = Document::parse("listen = 1\n[log]\nlevel = 2\n", "t", KEYS).expect("names are known");
        let mut listen = 0;
        document.section("").read("listen", &mut listen, |value| number(value, 0, 9)).expect("in range");
        assert_eq!(listen, 1);
        let wrong = document.section("").read("listen", &mut listen, |value| number(value, 5, 9));
        assert_eq!(wrong.expect_err("too low").key.as_deref(), Some("listen"));
        for (text, meant) in [("listn = 1", "listen"), ("[lug]\nlevel = 1", "log")] {
            let error = Document::parse(text, "t", KEYS).err().expect("unknown").to_string();
            assert!(error.contains(&format!("did you mean `{meant}`?")), "{error}");
        }
        assert!(Document::parse("log = 1", "t", KEYS).is_err());
        assert!(Document::parse("level = 1", "t", KEYS).is_err());
    }

    #[test]
    fn a_section_within_another_is_read_and_what_it_does_not_have_is_told_where_it_begins() {
        const NESTED: &Sections = &[("auth", &["idle"]), ("auth.oidc", &["issuer"])];
        let text = "[auth]\nidle = 1\n[auth.oidc]\nissuer = \"a\"\n";
        let document = Document::parse(text, "t", NESTED).expect("names are known");
        let (section, mut issuer) = (document.section("auth.oidc"), String::new());
        section.read("issuer", &mut issuer, |value| Ok(text_of(value))).expect("a string");
        assert_eq!((issuer.as_str(), section.is_there()), ("a", true));
        assert!(!Document::parse("[auth]", "t", NESTED).expect("fine").section("auth.oidc").is_there());
        let empty = Document::parse("[auth]\n\n[auth.oidc]", "t", NESTED).expect("fine");
        assert_eq!(empty.section("auth.oidc").fail("issuer", invalid("", "one")).line, 3);
        for (text, told) in [
            ("[auth.oidc]\nisuer = 1", "t:2: key `auth.oidc.isuer`: unknown; did you mean `issuer`?"),
            ("[auth.oid]\nissuer = 1", "t:1: key `auth.oid`: unknown; did you mean `oidc`?"),
            ("[auth]\noidc = 1", "t:2: key `auth.oidc`: is of type integer"),
            ("[\"auth.oidc\"]\nissuer = 1", "unknown"),
        ] {
            let error = Document::parse(text, "t", NESTED).err().expect("it is wrong").to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    fn text_of(value: &DeValue<'_>) -> String {
        text(value).expect("a string").to_owned()
    }

    #[test]
    fn a_file_mode_without_quotes_is_repeated_with_them() {
        for text in ["mode = 0640", "\u{e9} = 1\nmode = 0640 # the group reads", "x = [0640]"] {
            let error = Document::parse(text, "t", KEYS).err().expect("no TOML").to_string();
            assert!(text.starts_with('\u{e9}') || error.ends_with("write it in quotes: \"0640\""), "{error}");
        }
    }
}
