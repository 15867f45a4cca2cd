//! Any file beside any sidecar: after the steps of a repair there is nothing left to repair.
#![no_main]

#[path = "../../tests/support/memory.rs"]
mod memory;

use libfuzzer_sys::{arbitrary, fuzz_target};
use memory::Memory;
use recfile::format::PROBE_OCTETS;
use recfile::recovery::{FileState, Mode, Patch, Plan, Step, Verdict, apply, plan};

const NAME: &str = "Record_20260301-091500.wav";

#[derive(arbitrary::Arbitrary, Debug)]
struct Found<'a> {
    octets: &'a [u8],
    sidecar: Option<&'a [u8]>,
    may_grow: bool,
    explicit: bool,
}

fn plan_of(octets: &[u8], sidecar: Option<&[u8]>, may_grow: bool, mode: Mode) -> Plan {
    let head = &octets[..octets.len().min(PROBE_OCTETS)];
    plan(&FileState { name: NAME, len: octets.len() as u64, head, sidecar, busy: false, may_grow }, mode)
}

fuzz_target!(|found: Found<'_>| {
    let mode = if found.explicit { Mode::Explicit } else { Mode::Automatic };
    let first = plan_of(found.octets, found.sidecar, found.may_grow, mode);
    let mut file = Memory(found.octets.to_vec());
    let mended = apply(&first, &mut file).unwrap().map(|sidecar| sidecar.to_json());
    if matches!(first.verdict, Verdict::Sound | Verdict::Repairable) {
        let aside = first.steps.iter().any(|step| matches!(step, Step::SetSidecarAside { .. }));
        let sidecar = mended.as_deref().or(found.sidecar.filter(|_| !aside));
        assert_eq!(plan_of(&file.0, sidecar, found.may_grow, Mode::Explicit).verdict, Verdict::Sound);
    } else {
        assert_eq!(file.0, found.octets);
    }
});
