//! Who talks to whom: what the phone tells of the call that is recorded.
//!
//! Owns: the fields, their limit and how an update changes them. All of it is personal data: never in a log
//! above debug level. Sidecars, stop requests and listings carry it on.

use serde::{Deserialize, Serialize};

/// Most characters of each text in a [`Call`].
pub const MAX_CALL_FIELD_CHARS: usize = 256;

/// Direction of a call, seen from the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Call {
    /// The phone's id of the call.
    pub id: String,
    /// Who called.
    pub direction: Option<Direction>,
    /// Number or SIP user of the other side.
    pub remote_number: String,
    /// Display name of the other side.
    pub remote_name: String,
    /// Number or SIP user of the phone's account.
    pub local_number: String,
    /// Display name of the phone's account.
    pub local_name: String,
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
}

impl Call {
    /// Takes over every field that `update` has; the others stay.
    pub fn update(&mut self, update: &CallUpdate) {
        if let Some(direction) = update.direction {
            self.direction = Some(direction);
        }
        for (field, new) in [
            (&mut self.id, &update.id),
            (&mut self.remote_number, &update.remote_number),
            (&mut self.remote_name, &update.remote_name),
            (&mut self.local_number, &update.local_number),
            (&mut self.local_name, &update.local_name),
        ] {
            if let Some(new) = new {
                field.clone_from(new);
            }
        }
    }

    /// What a server says of this call, for the log: on one line, and without its numbers and names.
    #[must_use]
    pub fn redacted(&self, text: &str) -> String {
        let mut shown = text.replace(char::is_control, " ");
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
    fn what_a_server_says_is_logged_without_numbers_and_names() {
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
