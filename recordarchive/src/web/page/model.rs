//! Answers of the API, as pages show them.

use crate::time;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Session {
    pub(super) user: String,
    pub(super) display: Option<String>,
    pub(super) permissions: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Party {
    pub(super) number: String,
    pub(super) name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Recording {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) codec: String,
    pub(super) duration_ms: i64,
    pub(super) segments: i64,
    pub(super) gap_ms: i64,
    pub(super) lost: i64,
    pub(super) end_reason: String,
    pub(super) state: String,
    pub(super) encrypted: bool,
    pub(super) sha256: String,
}

impl Recording {
    pub(super) fn length(&self) -> String {
        length(self.duration_ms)
    }

    pub(super) fn gap(&self) -> String {
        if self.gap_ms == 0 {
            "–".into()
        } else {
            format!("{}.{} s", self.gap_ms / 1000, self.gap_ms % 1000 / 100)
        }
    }

    pub(super) fn hash(&self) -> &str {
        self.sha256.get(..12).unwrap_or_default()
    }

    pub(super) fn is_playable(&self) -> bool {
        self.state != "missing" && !self.encrypted
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Note {
    pub(super) id: String,
    pub(super) superseded_by: Option<String>,
    pub(super) text: String,
    pub(super) at_ms: Option<i64>,
    pub(super) by: String,
    written: String,
    #[serde(skip)]
    pub(super) when: String,
}

impl Note {
    pub(super) fn at(&self) -> String {
        length(self.at_ms.unwrap_or_default())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Same {
    pub(super) id: String,
    pub(super) started: String,
    pub(super) device: String,
    pub(super) extension: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) external_id: String,
    direction: Option<String>,
    started: String,
    duration_ms: i64,
    pub(super) remote: Party,
    pub(super) local: Party,
    pub(super) device: String,
    pub(super) site: String,
    state: String,
    pub(super) tags: Vec<String>,
    has_notes: bool,
    on_hold: bool,
    pub(super) delete_due: Option<String>,
    pub(super) delete_why: Option<String>,
    #[serde(deserialize_with = "spoken")]
    pub(super) retention: Option<String>,
    pub(super) recordings: Vec<Recording>,
    pub(super) notes: Vec<Note>,
    pub(super) same: Vec<Same>,
    holds: Vec<Value>,
    events: Vec<Value>,
    /// The start, on the site's clocks.
    #[serde(skip)]
    pub(super) when: String,
    /// The length.
    #[serde(skip)]
    pub(super) length: String,
}

fn spoken<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(words(&Value::deserialize(from)?)).filter(|text| !text.is_empty()))
}

impl Call {
    /// Adds the values that depend on the site.
    pub(super) fn at(mut self, zone: &TimeZone) -> Self {
        self.when = when(&self.started, zone);
        self.length = length(self.duration_ms);
        for same in &mut self.same {
            same.started = when(&same.started, zone);
        }
        for note in &mut self.notes {
            note.when = when(&note.written, zone);
        }
        self
    }

    pub(super) fn arrow(&self) -> &'static str {
        match self.direction.as_deref() {
            Some("in") => "←",
            Some("out") => "→",
            _ => "·",
        }
    }

    pub(super) fn direction_word(&self) -> &'static str {
        match self.direction.as_deref() {
            Some("in") => "incoming",
            Some("out") => "outgoing",
            _ => "direction unknown",
        }
    }

    pub(super) fn title(&self) -> String {
        let all = [self.remote.name.as_str(), self.remote.number.as_str()];
        let said: Vec<&str> = all.into_iter().filter(|text| !text.is_empty()).collect();
        if said.is_empty() { "Unknown caller".into() } else { said.join(" ") }
    }

    pub(super) fn tag_line(&self) -> String {
        self.tags.join(", ")
    }

    /// The tags, as a list of JSON.
    pub(super) fn tag_list(&self) -> String {
        serde_json::json!(self.tags).to_string()
    }

    pub(super) fn is_playable(&self) -> bool {
        self.recordings.iter().any(Recording::is_playable)
    }

    /// The marks shown beside a call in a list.
    pub(super) fn marks(&self) -> Vec<&'static str> {
        let all = [
            (self.on_hold, "hold"),
            (self.state == "missing", "missing"),
            (self.has_notes, "note"),
            (self.recordings.iter().any(|recording| recording.gap_ms > 0), "gap"),
            (self.duration_ms == 0, "empty"),
        ];
        all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, name)| name).collect()
    }

    pub(super) fn hold_lines(&self) -> Vec<String> {
        self.holds.iter().map(words).collect()
    }

    pub(super) fn event_lines(&self) -> Vec<String> {
        self.events.iter().map(words).collect()
    }
}

/// A value in words: the fields of an object one after the other.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(all) => {
            let said = all.iter().filter(|(_, value)| !value.is_null());
            said.map(|(key, value)| format!("{key}: {}", words(value))).collect::<Vec<_>>().join(" · ")
        }
        other => other.to_string(),
    }
}

/// A time of the API on the site's clocks.
pub(super) fn when(text: &str, zone: &TimeZone) -> String {
    let Some(us) = time::parse(text) else { return String::new() };
    let at = Timestamp::from_microsecond(us).unwrap_or_default();
    zone.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A length, as people say it.
pub(super) fn length(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    if s >= 3600 {
        format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    } else {
        format!("{}:{:02}", s / 60, s % 60)
    }
}
