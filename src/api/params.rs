//! Named parameters of a request, taken one by one.
//!
//! Owns: types, ranges and the wording of errors, always with the parameter's name. Invariants: a parameter
//! that nobody takes is an error; null counts as left out.

use serde_json::{Map, Value};

/// A mistake, with the name of its parameter.
pub(super) type ParamError = String;

/// Characters of a wrong name or value that an error repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// The members of `params`, or of an object in it.
pub(super) struct Params {
    members: Map<String, Value>,
    /// Put before names in errors, such as `call.`.
    prefix: &'static str,
}

impl Params {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self { members, prefix: "" }
    }

    /// The parameter `name` as `convert` reads it.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        convert: impl FnOnce(Value) -> Result<T, String>,
    ) -> Result<Option<T>, ParamError> {
        match self.members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match convert(value) {
                Ok(value) => Ok(Some(value)),
                Err(problem) => Err(format!("`{}{name}` {problem}", self.prefix)),
            },
        }
    }

    /// The same, and it has to be there.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        convert: impl FnOnce(Value) -> Result<T, String>,
    ) -> Result<T, ParamError> {
        self.optional(name, convert)?.ok_or_else(|| format!("`{}{name}` is missing", self.prefix))
    }

    /// The parameter `name`, of any type.
    pub(super) fn any(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// The members of the object `name`; `None` if it is left out.
    pub(super) fn object(&mut self, name: &str, prefix: &'static str) -> Result<Option<Self>, ParamError> {
        self.optional(name, |value| match value {
            Value::Object(members) => Ok(Self { members, prefix }),
            _ => Err("must be an object".to_owned()),
        })
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), ParamError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(format!("`{}{}` is not a parameter of this method", self.prefix, shortened(name)))
            }
        }
    }
}

/// A string of at most `max` characters.
pub(super) fn text(max: usize) -> impl FnOnce(Value) -> Result<String, String> {
    move |value| match value {
        Value::String(text) if text.chars().nth(max).is_none() => Ok(text),
        Value::String(_) => Err(format!("is longer than {max} characters")),
        _ => Err("must be a string".to_owned()),
    }
}

/// A whole number from `lowest` to `highest`.
pub(super) fn number<T: TryFrom<u64>>(lowest: u64, highest: u64) -> impl FnOnce(Value) -> Result<T, String> {
    move |value| {
        let number = value.as_u64().filter(|number| (lowest..=highest).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("must be a whole number from {lowest} to {highest}"))
    }
}

pub(super) fn flag(value: Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

/// One of `names`.
pub(super) fn choice<T: Copy>(names: &[(&str, T)]) -> impl FnOnce(Value) -> Result<T, String> {
    move |value| {
        let found = value.as_str();
        names.iter().find(|(name, _)| found == Some(*name)).map(|(_, it)| *it).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            format!("must be one of: {}", names.join(", "))
        })
    }
}

/// At most `max` characters of a client's text.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(MAX_QUOTED_CHARS).collect()
}
