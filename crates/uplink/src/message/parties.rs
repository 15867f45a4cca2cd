//! Both ends of a call, as messages name them.

use recfile::call::{Call, CallUpdate, Field};

/// Numbers and names of both ends of a call; empty where unknown. Personal data: not for the log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Parties {
    /// Number of the other party.
    pub remote_number: String,
    /// Display name of the other party.
    pub remote_name: String,
    /// Number of the phone's line.
    pub local_number: String,
    /// Display name of the phone's line.
    pub local_name: String,
}

impl From<&Call> for Parties {
    fn from(call: &Call) -> Self {
        Self {
            remote_number: call.remote_number.clone(),
            remote_name: call.remote_name.clone(),
            local_number: call.local_number.clone(),
            local_name: call.local_name.clone(),
        }
    }
}

impl From<&Parties> for CallUpdate {
    /// Their texts about a call, made fit to be kept; empty texts say nothing.
    fn from(parties: &Parties) -> Self {
        let mut update = Self::default();
        for (field, said) in [
            (Field::RemoteNumber, &parties.remote_number),
            (Field::RemoteName, &parties.remote_name),
            (Field::LocalNumber, &parties.local_number),
            (Field::LocalName, &parties.local_name),
        ] {
            if !said.is_empty() {
                update.say(field, said);
            }
        }
        update
    }
}
