//! The encrypted part of an encrypted recording's sidecar.
//!
//! Owns: which of its members are personal, and the age file that holds them. The plain part has the fields
//! that recovery, lists and making room need: id, segment, codec, start, lengths, counts, why it ended.
//! Numbers, names and the id of the call, where it was silent and paused, hash and signature are inside
//! `sealed`, a whole age file in base64, which `age -d` opens to the JSON of a whole sidecar.

use super::age::{self, Identity, Recipient};
use super::{Entropy, SealError, base64};
use crate::call::Call;
use crate::sidecar::{MAX_SIDECAR_OCTETS, Sidecar};
use std::io;

/// The sidecar to be put beside an encrypted recording.
///
/// # Errors
/// Those of the entropy, and `InvalidInput` for none or too many recipients.
pub fn seal(sidecar: &Sidecar, recipients: &[Recipient], entropy: Entropy<'_>) -> io::Result<Sidecar> {
    let whole = Sidecar { encrypted: true, sealed: None, ..sidecar.clone() };
    let sealed = base64::encode_padded(&age::seal(&whole.to_json(), recipients, entropy)?);
    Ok(Sidecar {
        call: Call::default(),
        gaps: Vec::new(),
        pauses: Vec::new(),
        sha256: None,
        signature: None,
        sealed: Some(sealed),
        ..whole
    })
}

/// The whole sidecar: the encrypted fields, and from the plain part those that may change without the key.
///
/// # Errors
/// [`SealError`]; [`SealError::Altered`] also if it is the inside of another file's sidecar.
pub fn open(beside: &Sidecar, identities: &[Identity]) -> Result<Sidecar, SealError> {
    let Some(sealed) = &beside.sealed else { return Ok(beside.clone()) };
    let file = base64::decode_padded(sealed).ok_or(SealError::Altered)?;
    let json = age::open(&file, identities)?;
    if json.len() > MAX_SIDECAR_OCTETS {
        return Err(SealError::Altered);
    }
    let inside = Sidecar::parse(&json).map_err(|_| SealError::Altered)?;
    if inside.recording != beside.recording || inside.segment != beside.segment {
        return Err(SealError::Altered);
    }
    Ok(Sidecar {
        call: inside.call,
        gaps: inside.gaps,
        pauses: inside.pauses,
        sha256: inside.sha256,
        signature: inside.signature,
        sealed: None,
        ..beside.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::age::tests::counting;
    use crate::sidecar::{Gap, Pause};

    fn sidecar() -> Sidecar {
        let mut sidecar = Sidecar {
            recording: "r1".into(),
            call: Call {
                remote_number: "+493023125001".into(),
                remote_name: "Erika Mustermann".into(),
                id: "c1@phone".into(),
                ..Call::default()
            },
            duration_ms: 40,
            sha256: Some("ab".repeat(32)),
            ..Sidecar::default()
        };
        sidecar.push_gap(Gap { at_ms: 1234, duration_ms: 60, cause: "loss".into() });
        sidecar.push_pause(Pause { at_ms: 4321, duration_ms: 7 });
        sidecar
    }

    #[test]
    fn personal_fields_are_inside_and_come_back_with_the_key() {
        let identity = Identity::generate(&mut counting(1)).unwrap();
        let sealed = seal(&sidecar(), &[identity.recipient()], &mut counting(2)).unwrap();
        let text = String::from_utf8(sealed.to_json()).unwrap();
        for personal in ["493023125001", "Mustermann", "c1@phone", "1234", "4321", &"ab".repeat(32)] {
            assert!(!text.contains(personal), "{personal} in {text}");
        }
        assert!(text.contains("\"encrypted\": true") && text.contains("\"duration_ms\": 40"), "{text}");
        let read = Sidecar::parse(text.as_bytes()).unwrap();
        let opened = open(&read, &[identity]).unwrap();
        assert_eq!(opened, Sidecar { encrypted: true, ..sidecar() });
    }

    #[test]
    fn later_changes_outside_count() {
        let identity = Identity::generate(&mut counting(1)).unwrap();
        let mut sealed = seal(&sidecar(), &[identity.recipient()], &mut counting(2)).unwrap();
        (sealed.protected, sealed.recovered, sealed.duration_ms) = (true, true, 20);
        let opened = open(&sealed, &[identity]).unwrap();
        assert!(opened.protected && opened.recovered && opened.duration_ms == 20);
        assert_eq!(opened.call, sidecar().call);
    }

    #[test]
    fn the_inside_of_another_sidecar_and_a_damaged_one_are_refused() {
        let identity = Identity::generate(&mut counting(1)).unwrap();
        let sealed = seal(&sidecar(), &[identity.recipient()], &mut counting(2)).unwrap();
        let other = Sidecar { recording: "r2".into(), ..sealed.clone() };
        assert_eq!(open(&other, std::slice::from_ref(&identity)), Err(SealError::Altered));
        let mut text = sealed.sealed.clone().unwrap();
        text.replace_range(400..401, if &text[400..401] == "A" { "B" } else { "A" });
        let damaged = Sidecar { sealed: Some(text), ..sealed };
        assert!(open(&damaged, &[identity]).is_err());
    }
}
