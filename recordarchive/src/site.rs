//! The site of an archive: its name, its time zone, its country.

use jiff::tz::TimeZone;

/// A site.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The name in lists.
    pub(crate) name: String,
    /// That of its days.
    pub(crate) zone: TimeZone,
    /// Digits that its numbers have abroad, such as `49`.
    pub(crate) country_code: Option<String>,
}

impl Default for Site {
    fn default() -> Self {
        Self { name: "main".into(), zone: TimeZone::system(), country_code: None }
    }
}
