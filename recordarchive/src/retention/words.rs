//! Retention of a call, as a person reads it.

use super::Fate;
use crate::time::day_of;
use jiff::tz::TimeZone;

/// The holds of a call and when it goes, in words; days are those of `zone`.
pub(crate) fn retention(fate: &Fate, holds: &[&str], now_us: i64, zone: &TimeZone) -> String {
    let mut said = Vec::new();
    if !holds.is_empty() {
        let names: Vec<String> = holds.iter().map(|name| format!("{name:?}")).collect();
        said.push(format!("On hold: {}. Nothing deletes it until two people release it.", names.join(", ")));
    }
    if let Some(kept) = fate.keeps(now_us) {
        said.push(format!("Kept until {} at least, by policy {:?}.", day_of(kept.at_us, zone), kept.policy));
    }
    said.push(match &fate.due {
        None => "No policy deletes it.".to_owned(),
        Some(due) => {
            let (day, policy) = (day_of(due.at_us, zone), &due.policy);
            match (holds.is_empty(), due.at_us <= now_us) {
                (true, false) => {
                    format!("Goes to the trash on {day}, by policy {policy:?}; 7 days later it is gone.")
                }
                (true, true) => {
                    format!("Due since {day}, by policy {policy:?}: it goes to the trash within minutes.")
                }
                (false, _) => format!("Without a hold it goes to the trash on {day}, by policy {policy:?}."),
            }
        }
    });
    said.join(" ")
}
