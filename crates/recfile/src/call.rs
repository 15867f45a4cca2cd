//! The parties of a recorded call, as the phone tells them.
//!
//! Owns: the fields, their limit, the part of a text that is kept, and how an update changes them. All of it
//! is personal data: never in a log above debug level. Sidecars, stop requests and listings carry it on.

use crate::text::kept;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Most characters of each text in a [`Call`].
pub const MAX_CALL_FIELD_CHARS: usize = 256;

/// Direction of a call, seen from the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The phone was called.
    In,
    /// The phone called.
    Out,
}

impl Direction {
    /// `in` or `out`, as socket and uplink spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    /// The direction of `text`, `in` or `out`.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        [Self::In, Self::Out].into_iter().find(|direction| direction.as_str() == text)
    }
}

/// A call; texts that are not known are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Call {
    /// The phone's id of the call.
    pub id: String,
    /// The direction: who called.
    pub direction: Option<Direction>,
    /// Number or SIP user of the other side.
    pub remote_number: String,
    /// Display name of the other side.
    pub remote_name: String,
    /// Number or SIP user of the phone's account.
    pub local_number: String,
    /// Display name of the phone's account.
    pub local_name: String,
    /// Of which of them not all could be kept as it was said.
    #[serde(skip_serializing_if = "Altered::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Field>"))]
    pub altered: Altered,
}

/// A field of a call that comes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(Serialize, schemars::JsonSchema), serde(rename_all = "snake_case"))]
pub enum Field {
    /// `id`
    Id,
    /// `direction`
    Direction,
    /// `remote_number`
    RemoteNumber,
    /// `remote_name`
    RemoteName,
    /// `local_number`
    LocalNumber,
    /// `local_name`
    LocalName,
    /// A phone's name for itself, at the server.
    Device,
    /// The id that a phone gives a recording, at the server.
    Recording,
}

impl Field {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Id,
        Self::Direction,
        Self::RemoteNumber,
        Self::RemoteName,
        Self::LocalNumber,
        Self::LocalName,
        Self::Device,
        Self::Recording,
    ];

    /// As JSON spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Direction => "direction",
            Self::RemoteNumber => "remote_number",
            Self::RemoteName => "remote_name",
            Self::LocalNumber => "local_number",
            Self::LocalName => "local_name",
            Self::Device => "device",
            Self::Recording => "recording",
        }
    }
}

/// Fields that were said otherwise than they are kept: cut, cleaned, or of no use at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Altered(u8);

impl Altered {
    /// Whether all is as it was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Whether `field` is not as it was said.
    #[must_use]
    pub fn has(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Notes whether `field` is not as it was said.
    pub fn set(&mut self, field: Field, altered: bool) {
        let bit = 1 << field as u8;
        self.0 = if altered { self.0 | bit } else { self.0 & !bit };
    }

    fn fields(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |field| self.has(*field))
    }
}

impl fmt::Display for Altered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields().map(Field::as_str).collect();
        f.write_str(&names.join(", "))
    }
}

impl Serialize for Altered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.fields().map(Field::as_str))
    }
}

impl<'de> Deserialize<'de> for Altered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Altered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of fields")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Altered, A::Error> {
                let mut altered = Altered::default();
                while let Some(name) = names.next_element::<String>()? {
                    // Later versions may know more of them.
                    if let Some(field) = Field::ALL.into_iter().find(|field| field.as_str() == name) {
                        altered.set(field, true);
                    }
                }
                Ok(altered)
            }
        }
        deserializer.deserialize_seq(Names)
    }
}

/// The changed fields of a call (transfer, late caller id).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallUpdate {
    /// New id.
    pub id: Option<String>,
    /// New direction.
    pub direction: Option<Direction>,
    /// New number of the other side.
    pub remote_number: Option<String>,
    /// New name of the other side.
    pub remote_name: Option<String>,
    /// New number of this side.
    pub local_number: Option<String>,
    /// New name of this side.
    pub local_name: Option<String>,
    /// Which of them are not as they were said. One that is noted and not there was of no use.
    pub altered: Altered,
}

impl CallUpdate {
    /// Takes the text of `field`; at most [`MAX_CALL_FIELD_CHARS`] of it are kept.
    pub fn say(&mut self, field: Field, said: &str) {
        let kept = kept(said, MAX_CALL_FIELD_CHARS);
        let text = match field {
            Field::Id => &mut self.id,
            Field::RemoteNumber => &mut self.remote_number,
            Field::RemoteName => &mut self.remote_name,
            Field::LocalNumber => &mut self.local_number,
            Field::LocalName => &mut self.local_name,
            Field::Direction | Field::Device | Field::Recording => return,
        };
        *text = Some(kept.text);
        self.altered.set(field, kept.altered);
    }
}

impl Call {
    /// Takes over every field that `update` has; the others stay.
    pub fn update(&mut self, update: &CallUpdate) {
        let mut altered = self.altered;
        let mut note = |field, is_new: bool| {
            if is_new || update.altered.has(field) {
                altered.set(field, update.altered.has(field));
            }
        };
        note(Field::Direction, update.direction.is_some());
        self.direction = update.direction.or(self.direction);
        for (field, text, new) in [
            (Field::Id, &mut self.id, &update.id),
            (Field::RemoteNumber, &mut self.remote_number, &update.remote_number),
            (Field::RemoteName, &mut self.remote_name, &update.remote_name),
            (Field::LocalNumber, &mut self.local_number, &update.local_number),
            (Field::LocalName, &mut self.local_name, &update.local_name),
        ] {
            note(field, new.is_some());
            if let Some(new) = new {
                text.clone_from(new);
            }
        }
        self.altered = altered;
    }

    /// A server's text about this call, for the log: on one line, and without numbers and names of the call.
    #[must_use]
    pub fn redacted(&self, text: &str) -> String {
        let mut shown = kept(text, text.len()).text;
        for field in [&self.remote_number, &self.remote_name, &self.local_number, &self.local_name] {
            if !field.trim().is_empty() {
                shown = shown.replace(field.as_str(), "…");
            }
        }
        shown
    }

    /// Whether `text` is part of one of the numbers and names; case does not matter.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        let wanted = text.to_lowercase();
        [&self.remote_number, &self.remote_name, &self.local_number, &self.local_name]
            .into_iter()
            .any(|field| field.to_lowercase().contains(&wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_only_the_fields_it_has() {
        let mut call = Call { id: "c1".into(), remote_name: "Anna".into(), ..Call::default() };
        call.update(&CallUpdate {
            remote_number: Some("+4930123".into()),
            remote_name: Some(String::new()),
            direction: Some(Direction::Out),
            ..CallUpdate::default()
        });
        let expected = Call {
            id: "c1".into(),
            direction: Some(Direction::Out),
            remote_number: "+4930123".into(),
            ..Call::default()
        };
        assert_eq!(call, expected);
    }

    #[test]
    fn fields_that_can_not_be_kept_unchanged_are_noted_until_the_next_update() {
        let mut update = CallUpdate::default();
        update.say(Field::RemoteName, "An\u{202e}na\n");
        update.say(Field::RemoteNumber, &"1".repeat(300));
        update.say(Field::LocalName, "Ödön");
        let mut call = Call::default();
        call.update(&update);
        assert_eq!((call.remote_name.as_str(), call.remote_number.len()), ("Anna ", MAX_CALL_FIELD_CHARS));
        assert_eq!(call.altered.to_string(), "remote_number, remote_name");
        let mut later = CallUpdate::default();
        later.say(Field::RemoteName, "Anna");
        later.altered.set(Field::Id, true);
        call.update(&later);
        assert_eq!(call.altered.to_string(), "id, remote_number");
        let json = serde_json::to_string(&call).unwrap();
        assert!(json.ends_with(r#""altered":["id","remote_number"]}"#), "{json}");
        assert_eq!(serde_json::from_str::<Call>(&json).unwrap(), call);
        assert!(!serde_json::to_string(&Call::default()).unwrap().contains("altered"));
        let later: Call = serde_json::from_str(r#"{"altered":["hat","device"]}"#).unwrap();
        assert_eq!(later.altered.to_string(), "device");
    }

    #[test]
    fn texts_of_a_server_are_logged_without_numbers_and_names() {
        let call = Call {
            remote_number: "+4930123".into(),
            remote_name: "Anna".into(),
            local_number: "201".into(),
            ..Call::default()
        };
        let said = "no license for 201:\nAnna (+4930123) is not recorded";
        assert_eq!(call.redacted(said), "no license for …: … (…) is not recorded");
        assert_eq!(Call::default().redacted("no license left"), "no license left");
    }

    #[test]
    fn a_search_looks_at_numbers_and_names_in_any_case() {
        let call = Call { id: "xyz".into(), remote_name: "Änne Berg".into(), ..Call::default() };
        assert!(call.mentions("änne b"));
        assert!(!call.mentions("xyz"));
    }

    #[test]
    fn a_call_is_read_with_fields_missing_or_unknown() {
        let call: Call = serde_json::from_str(r#"{"direction":"in","later":1}"#).unwrap();
        assert_eq!(call, Call { direction: Some(Direction::In), ..Call::default() });
    }
}
