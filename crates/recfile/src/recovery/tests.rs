use super::memory::Memory;
use super::*;
use crate::format::PROBE_OCTETS;
use crate::reader::Reader;
use proptest::prelude::*;
use std::io::Cursor;

const NAME: &str = "Record_20260301-091500.wav";

fn open_sidecar() -> Sidecar {
    Sidecar {
        recording: "r1".into(),
        file: NAME.into(),
        codec: "PCMA".into(),
        state: SidecarState::Recording,
        ..Sidecar::default()
    }
}

fn plan_of(octets: &[u8], sidecar: Option<&Sidecar>, mode: Mode) -> Plan {
    let json = sidecar.map(Sidecar::to_json);
    let head = &octets[..octets.len().min(PROBE_OCTETS)];
    let len = octets.len() as u64;
    let state = FileState { name: NAME, len, head, sidecar: json.as_deref(), busy: false, may_grow: true };
    plan(&state, mode)
}

fn recording(data_size: u32, data: &[u8]) -> Vec<u8> {
    let header = FileHeader { data_size, ..FileHeader::new(Codec::Pcma, 20) };
    [&header.encode()[..], data].concat()
}

#[test]
fn an_interrupted_recording_gets_its_size_a_filled_last_frame_and_a_closed_sidecar() {
    let plan = plan_of(&recording(160, &[1; 500]), Some(&open_sidecar()), Mode::Automatic);
    assert_eq!(plan.verdict, Verdict::Repairable);
    assert_eq!(plan.steps[..2], [Step::Pad { at: 576, octets: 140, byte: 0xD5 }, Step::SetDataSize(640)]);
    let Step::WriteSidecar(sidecar) = &plan.steps[2] else { panic!("{:?}", plan.steps) };
    assert_eq!((sidecar.state, sidecar.duration_ms, sidecar.data_bytes), (SidecarState::Ended, 80, 640));
    assert_eq!((sidecar.recovered, sidecar.end_reason.as_deref()), (true, Some("interrupted")));
    assert_eq!((plan.duration_ms, plan.data_octets), (80, 640));
}

#[test]
fn without_room_the_last_frame_is_cut_away() {
    let octets = recording(160, &[1; 500]);
    let state =
        FileState { name: NAME, len: 576, head: &octets, sidecar: None, busy: false, may_grow: false };
    assert_eq!(plan(&state, Mode::Explicit).steps, [Step::Truncate(556), Step::SetDataSize(480)]);
}

#[test]
fn the_automatic_mode_touches_nothing_that_is_not_beside_an_open_sidecar_of_ours() {
    let stale = recording(0, &[1; 320]);
    let ended = Sidecar { state: SidecarState::Ended, ..open_sidecar() };
    let anonymous = Sidecar { recording: String::new(), ..open_sidecar() };
    let of_another = Sidecar { file: "Record_other.wav".into(), ..open_sidecar() };
    for sidecar in [None, Some(&ended), Some(&anonymous), Some(&of_another)] {
        assert_eq!(plan_of(&stale, sidecar, Mode::Automatic), Plan::nothing(Verdict::NotOurs));
    }
    assert_eq!(plan_of(&stale, None, Mode::Explicit).steps, [Step::SetDataSize(320)]);
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let octets = recording(0, &[1; 320]);
    let state = FileState { name: NAME, len: 396, head: &octets, sidecar: None, busy: true, may_grow: true };
    assert_eq!(plan(&state, Mode::Explicit), Plan::nothing(Verdict::Busy));
}

#[test]
fn a_lost_header_is_rebuilt_from_the_sidecar_and_only_from_it() {
    let mut blank = recording(0, &[7; 320]);
    blank[..76].fill(0);
    for (octets, data_size) in [(&blank[..], 320), (&blank[..20], 0), (&[], 0)] {
        let plan = plan_of(octets, Some(&open_sidecar()), Mode::Automatic);
        let header = FileHeader { data_size, ..FileHeader::new(Codec::Pcma, 20) };
        assert_eq!(plan.steps[0], Step::WriteHeader(header));
        assert!(matches!(plan_of(octets, None, Mode::Explicit).verdict, Verdict::Unrepairable(_)));
    }
}

#[test]
fn the_header_is_written_when_the_octets_that_it_speaks_of_are_durable() {
    #[derive(Default)]
    struct Order(Vec<&'static str>);
    impl Patch for Order {
        fn write_at(&mut self, offset: u64, _octets: &[u8]) -> io::Result<()> {
            self.0.push(if offset < HEADER_OCTETS as u64 { "header" } else { "audio" });
            Ok(())
        }
        fn set_len(&mut self, _len: u64) -> io::Result<()> {
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            self.0.push("sync");
            Ok(())
        }
    }
    let mut order = Order::default();
    let plan = plan_of(&recording(160, &[1; 500]), None, Mode::Explicit);
    apply(&plan, &mut order).unwrap();
    assert_eq!(order.0, ["audio", "sync", "header"]);
}

#[test]
fn a_standard_wav_is_never_overwritten_even_beside_an_open_sidecar() {
    let mut wav = recording(0, &[7; 320]);
    wav[..16].copy_from_slice(b"RIFF\x24\0\0\0WAVEfmt ");
    for mode in [Mode::Automatic, Mode::Explicit] {
        let plan = plan_of(&wav, Some(&open_sidecar()), mode);
        assert_eq!(plan.verdict, Verdict::Unrepairable(Unrepairable::Header(HeaderError::StandardWav)));
        assert_eq!(plan.steps, []);
    }
}

#[test]
fn a_sound_file_needs_nothing_and_a_big_endian_one_a_new_header() {
    assert_eq!(plan_of(&recording(320, &[1; 320]), None, Mode::Explicit).verdict, Verdict::Sound);
    let mut big = recording(0, &[1; 320]);
    big[64..76].copy_from_slice(&[0, 0, 0, 160, 0, 0, 0, 160, 0, 0, 1, 64]);
    let header = FileHeader { data_size: 320, ..FileHeader::new(Codec::Pcma, 20) };
    assert_eq!(plan_of(&big, None, Mode::Explicit).steps, [Step::WriteHeader(header)]);
}

#[test]
fn a_file_over_4_gib_gets_the_most_that_data_size_can_say_and_its_last_frame_filled() {
    let plan_of = |data_size, len| {
        let head = recording(data_size, &[]);
        let state = FileState { name: NAME, len, head: &head, sidecar: None, busy: false, may_grow: true };
        plan(&state, Mode::Explicit)
    };
    let len = 76 + 5_000_000_000;
    let pad = Step::Pad { at: len - 60, octets: 60, byte: 0xD5 };
    let cut = plan_of(0, len - 60);
    assert_eq!((cut.steps, cut.data_octets), (vec![pad, Step::SetDataSize(4_294_967_200)], 5_000_000_000));
    assert_eq!(plan_of(4_294_967_200, len).verdict, Verdict::Sound);
}

#[test]
fn a_file_that_is_no_sidecar_is_set_aside_by_a_person_s_wish_only() {
    let octets = recording(320, &[1; 320]);
    for sidecar in [&b""[..], b"{\"segment\":\"one\"}", &[b' '; (1 << 20) + 1]] {
        let state = FileState {
            name: NAME,
            len: 396,
            head: &octets,
            sidecar: Some(sidecar),
            busy: false,
            may_grow: true,
        };
        let wished = plan(&state, Mode::Explicit);
        assert!(matches!(wished.steps[..], [Step::SetSidecarAside { .. }]), "{:?}", wished.steps);
        assert_eq!(plan(&state, Mode::Automatic), Plan::nothing(Verdict::NotOurs));
    }
}

#[test]
fn a_sidecar_of_another_codec_gets_the_header_s() {
    let ended = |codec: &str| Sidecar {
        state: SidecarState::Ended,
        codec: codec.into(),
        duration_ms: 40,
        data_bytes: 320,
        ..open_sidecar()
    };
    let octets = recording(320, &[1; 320]);
    let plan = plan_of(&octets, Some(&ended("PCMU")), Mode::Explicit);
    assert_eq!(plan.steps, [Step::WriteSidecar(Box::new(Sidecar { recovered: true, ..ended("PCMA") }))]);
    for same in ["", "pcma"] {
        assert_eq!(plan_of(&octets, Some(&ended(same)), Mode::Explicit).verdict, Verdict::Sound);
    }
}

/// Packets of 20 ms of PCMA, one after another.
fn packets(count: u8) -> Vec<u8> {
    let packet = |n: u8| {
        let [high, low] = (u16::from(n) * 160).to_be_bytes();
        [&[0x80, 8, 0, n, 0, 0, high, low, 1, 2, 3, 4][..], &[n; 160]].concat()
    };
    (0..count).flat_map(packet).collect()
}

#[test]
fn of_whole_packets_a_sidecar_may_count_the_payload_alone() {
    let octets = recording(1720, &packets(10));
    let counting =
        |data_bytes| Sidecar { state: SidecarState::Ended, duration_ms: 200, data_bytes, ..open_sidecar() };
    for (data_bytes, verdict) in [(1720, Verdict::Sound), (1600, Verdict::Sound), (1601, Verdict::Repairable)]
    {
        assert_eq!(plan_of(&octets, Some(&counting(data_bytes)), Mode::Explicit).verdict, verdict);
    }
}

#[test]
fn a_packet_that_is_cut_off_goes_if_with_it_the_file_would_be_taken_for_payloads() {
    for (next, cut_off) in [(1, false), (4, true)] {
        let all = packets(5);
        let octets = recording(172, &[&all[..172], &all[172 * next..172 * next + 100]].concat());
        let plan = plan_of(&octets, None, Mode::Explicit);
        assert_eq!(matches!(plan.steps[0], Step::Truncate(_)), cut_off, "{:?}", plan.steps);
        let mut file = Memory(octets);
        apply(&plan, &mut file).unwrap();
        let reader = Reader::open(Cursor::new(file.0)).unwrap();
        assert_eq!(reader.facts().layout, Layout::WholePackets);
    }
}

#[test]
fn before_whole_packets_a_lost_header_is_rebuilt_once() {
    let mut octets = recording(0, &packets(10));
    octets[..76].fill(0);
    let first = plan_of(&octets, Some(&open_sidecar()), Mode::Explicit);
    assert_eq!((first.steps.len(), first.duration_ms), (2, 200), "{:?}", first.steps);
    let mut file = Memory(octets);
    let sidecar = apply(&first, &mut file).unwrap().cloned();
    assert_eq!(file.0[76..], packets(10));
    assert_eq!(plan_of(&file.0, sidecar.as_ref(), Mode::Explicit).verdict, Verdict::Sound);
}

#[test]
fn a_codec_that_can_still_be_read_stays_in_a_rebuilt_header() {
    for (rtp_len, increment) in [(0, 160), (160, 0)] {
        let header = FileHeader { rtp_len, increment, ..FileHeader::new(Codec::Pcmu, 20) };
        let octets = [&header.encode()[..], &[1; 320]].concat();
        let plan = plan_of(&octets, Some(&open_sidecar()), Mode::Explicit);
        let rebuilt = FileHeader { data_size: 320, ..FileHeader::new(Codec::Pcmu, 20) };
        assert_eq!(plan.steps[0], Step::WriteHeader(rebuilt));
        let Step::WriteSidecar(sidecar) = &plan.steps[1] else { panic!("{:?}", plan.steps) };
        assert_eq!(sidecar.codec, "PCMU");
    }
}

proptest! {
    #[test]
    fn after_the_steps_the_reader_finds_no_problem_and_every_audio_octet_is_where_it_was(
        data in proptest::collection::vec(any::<u8>(), 0..2000), data_size: u32, rtp_len in 1..400u32,
        cut in 0..2100usize, blank: bool, beside: bool, automatic: bool,
    ) {
        let header = FileHeader { codec: Codec::Pcma, rtp_len, increment: rtp_len, data_size };
        let mut octets = [&header.encode()[..], &data].concat();
        octets.truncate(cut);
        if blank {
            let end = octets.len().min(76);
            octets[..end].fill(0);
        }
        let sidecar = beside.then(open_sidecar);
        let mode = if automatic { Mode::Automatic } else { Mode::Explicit };
        let plan = plan_of(&octets, sidecar.as_ref(), mode);
        let mut file = Memory(octets.clone());
        let written = apply(&plan, &mut file).unwrap().cloned();
        match plan.verdict {
            Verdict::Repairable | Verdict::Sound => {
                let reader = Reader::open(Cursor::new(file.0.clone())).unwrap();
                prop_assert_eq!(&reader.facts().problems, &[]);
                prop_assert_eq!(reader.facts().duration_ms, plan.duration_ms);
                let before = octets.get(76..).unwrap_or_default();
                prop_assert!(file.0[76..].starts_with(before));
                let again = plan_of(&file.0, written.as_ref().or(sidecar.as_ref()), Mode::Explicit);
                prop_assert_eq!(again.verdict, Verdict::Sound);
            }
            _ => prop_assert_eq!(file.0, octets),
        }
    }

    #[test]
    fn any_beginning_length_and_sidecar_give_a_plan(
        head in proptest::collection::vec(any::<u8>(), 0..200), extra in 0..u64::MAX / 2,
        sidecar in proptest::collection::vec(any::<u8>(), 0..100), ptime_ms: u32,
    ) {
        let odd = Sidecar { ptime_ms, ..open_sidecar() }.to_json();
        for sidecar in [&sidecar, &odd] {
            let len = head.len() as u64 + extra;
            let state =
                FileState { name: NAME, len, head: &head, sidecar: Some(sidecar), busy: false, may_grow: true };
            let _ = plan(&state, Mode::Explicit);
            let _ = plan(&state, Mode::Automatic);
        }
    }
}
