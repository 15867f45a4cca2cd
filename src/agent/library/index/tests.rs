use super::*;
use proptest::prelude::*;
use recfile::format::Format;
use recfile::header::{FileHeader, HEADER_OCTETS};
use std::path::PathBuf;

const DAY: Wall = Wall { unix_ms: 1_772_352_900_000, utc_offset_s: 3600 };

fn later(seconds: i64) -> Wall {
    Wall { unix_ms: DAY.unix_ms + seconds * 1000, ..DAY }
}

/// A file of a minute with a sidecar, begun `seconds` after [`DAY`].
fn found(seconds: i64, recording: &str, segment: u32) -> FileSummary {
    let start = later(seconds);
    let octets = HEADER_OCTETS as u64 + 480_000;
    let format = Format::detect(&FileHeader::new(Codec::Pcma, 20).encode()).unwrap();
    FileSummary {
        file: recfile::name::record_file_name(start, 1),
        octets,
        modified_ms: start.unix_ms,
        facts: Some(format.facts(octets)),
        encrypted: false,
        sidecar: Some(SidecarSummary {
            recording: recording.into(),
            segment,
            call: Call {
                id: "2f1c7a90-5d1e-4c3b".into(),
                direction: Some(Direction::In),
                remote_number: format!("+4930{seconds:08}"),
                remote_name: "Änne Berg".into(),
                local_number: "201".into(),
                local_name: "Reception".into(),
                ..Call::default()
            },
            start: Some(start),
            protected: false,
        }),
    }
}

fn folder() -> Option<Folder> {
    Some(Folder { root: PathBuf::from("/stick"), device: 1, name: "Record".into() })
}

fn library(count: i64) -> LibraryIndex {
    let mut library = LibraryIndex::default();
    library.begin();
    library.next_job(folder, Mono::default());
    for seconds in (0..count).rev() {
        library.put(Entry::new(&found(seconds, &format!("{seconds:016x}"), 1), 0));
    }
    library.indexed(Indexed { pass: library.pass, ..Indexed::default() }, Now::default());
    library
}

fn files(listed: &RecordingsListed) -> Vec<&str> {
    listed.recordings.iter().map(|entry| entry.file.as_str()).collect()
}

#[test]
fn ten_thousand_files_take_less_than_3_mib() {
    let library = library(10_000);
    let octets = library.memory_octets() + library.entries.len() * 2 * size_of::<usize>();
    eprintln!("{} octets an entry, {octets} in all", size_of::<Entry>());
    assert!(octets < 3 << 20, "{octets}");
}

#[test]
fn the_index_is_bounded_and_keeps_the_newest() {
    let count = i64::try_from(MAX_ENTRIES).unwrap() + 50;
    let library = library(count);
    assert_eq!(library.entries.len(), MAX_ENTRIES);
    assert_eq!(library.entries[0].start, later(count - 1));
    assert_eq!(library.entries[MAX_ENTRIES - 1].start, later(50));
}

#[test]
fn long_texts_of_foreign_sidecars_take_no_more_memory_than_is_allowed() {
    let mut library = LibraryIndex::default();
    let mut long = found(0, &"r".repeat(100_000), 1);
    let text = "ü".repeat(100_000);
    let beside = long.sidecar.as_mut().unwrap();
    beside.call = Call {
        id: text.clone(),
        direction: None,
        remote_number: text.clone(),
        remote_name: text.clone(),
        local_number: text.clone(),
        local_name: text,
        ..Call::default()
    };
    for seconds in 0..5000 {
        long.file = format!("Record_{seconds}.wav");
        long.sidecar.as_mut().unwrap().start = Some(later(seconds));
        library.put(Entry::new(&long, 0));
    }
    assert!(library.text_octets <= MAX_TEXT_OCTETS);
    assert!(library.entries.len() > 1000);
    assert_eq!(library.entries[0].start, later(4999));
    let page = library.list(Some(u32::MAX), None, None).unwrap();
    let json = serde_json::to_vec(&page).unwrap();
    assert!(json.len() < 1 << 20 && page.more, "{}", json.len());
}

#[test]
fn a_page_of_control_characters_still_fits_a_reply() {
    let mut library = LibraryIndex::default();
    for seconds in 0..2000 {
        let mut nasty = found(seconds, "r", 1);
        nasty.sidecar.as_mut().unwrap().call.remote_name = "\u{1}".repeat(256);
        library.put(Entry::new(&nasty, 0));
    }
    let json = serde_json::to_vec(&library.list(Some(1000), None, None).unwrap()).unwrap();
    assert!(json.len() < 1 << 20, "{}", json.len());
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let library = library(1005);
    let mut after: Option<String> = None;
    let mut all = Vec::new();
    loop {
        let page = library.list(Some(100), after.as_deref(), None).unwrap();
        all.extend(page.recordings.iter().map(|entry| entry.file.clone()));
        after = all.last().cloned();
        if !page.more {
            break;
        }
    }
    assert_eq!(all.len(), 1005);
    assert!(all.windows(2).all(|pair| pair[0] > pair[1]));
    assert_eq!(library.list(None, None, None).unwrap().recordings.len(), DEFAULT_PAGE);
    assert!(library.list(None, Some("Record_nowhere.wav"), None).is_none());
}

#[test]
fn a_search_finds_parts_of_numbers_and_names_in_any_case() {
    let library = library(300);
    let count = |query| library.list(Some(1000), None, Some(query)).unwrap().recordings.len();
    assert_eq!(count("00000123"), 1);
    assert_eq!(count("ÄNNE b"), 300);
    assert_eq!(count("RECEP"), 300);
    assert_eq!(count("2f1c7a90"), 0, "ids are not searched");
    assert_eq!(count("201Rec"), 0, "no match across fields");
    assert_eq!(count(""), 300);
    let page = library.list(Some(10), None, Some("+49300000012")).unwrap();
    assert_eq!((page.recordings.len(), page.more), (10, false));
}

#[test]
fn a_file_without_sidecar_begins_when_its_name_says_or_else_its_last_change() {
    let mut bare = found(0, "", 1);
    bare.sidecar = None;
    bare.modified_ms = 1_800_000_000_000;
    let entry = Entry::new(&bare, 3600);
    assert_eq!(entry.start, DAY);
    assert_eq!((entry.recording(), entry.listed().segment), (None, 1));
    assert_eq!(entry.listed().duration_ms, 60_000);
    bare.file = "Record_ünd so.wav".into();
    assert_eq!(Entry::new(&bare, 0).start.unix_ms, 1_800_000_000_000);
}

#[test]
fn segments_of_one_recording_are_found_in_their_order() {
    let mut library = library(5);
    for (seconds, segment) in [(100, 2), (90, 1), (95, 3)] {
        library.put(Entry::new(&found(seconds, "long", segment), 0));
    }
    let names = [90, 100, 95].map(|seconds| recfile::name::record_file_name(later(seconds), 1));
    assert_eq!(library.segments("long"), names);
}

fn step(pass: u64, found: FileSummary, next: Option<&str>) -> Indexed {
    Indexed { pass, found: vec![found], next: next.map(Into::into), ..Indexed::default() }
}

fn at(ms: u64) -> Now {
    Now { mono: Mono::new(Duration::from_millis(ms)), ..Now::default() }
}

#[test]
fn the_phone_rests_between_two_steps_for_as_long_as_the_last_one_took() {
    let mut library = LibraryIndex::default();
    library.begin();
    assert_eq!(library.deadline(), Some(Mono::default()), "the first one is due at once");
    assert!(library.next_job(folder, at(100).mono).is_some());
    assert_eq!(library.deadline(), None);
    library.indexed(step(library.pass, found(2, "r", 1), Some("b")), at(140));
    assert_eq!(library.deadline(), Some(at(180).mono));
    assert!(library.next_job(folder, at(179).mono).is_none());
    assert!(library.next_job(folder, at(180).mono).is_some());
    library.indexed(step(library.pass, found(1, "r", 1), Some("a")), at(20_000));
    assert_eq!(library.deadline(), Some(at(21_000).mono), "a stalled disk is no reason to wait for long");
    library.indexed(step(library.pass, found(0, "r", 1), None), at(21_000));
    assert_eq!(library.deadline(), None, "all is read");
}

#[test]
fn a_full_list_still_has_the_older_files_made_whole() {
    let mut library = library(MAX_ENTRIES.try_into().unwrap());
    library.step = Step::Due(Some("Record_19700101-000000.wav".into()));
    let Some(LibraryJob::Index(index)) = library.next_job(folder, at(0).mono) else { panic!() };
    assert!(!index.describe);
    assert!(!library.list(Some(1), None, None).unwrap().indexing);
}

#[test]
fn the_folder_is_read_step_by_step_and_an_old_pass_changes_nothing() {
    let mut library = LibraryIndex::default();
    assert!(library.next_job(folder, Mono::default()).is_none(), "no disk");
    library.begin();
    assert!(library.next_job(folder, Mono::default()).is_some());
    assert!(library.next_job(folder, Mono::default()).is_none(), "one step at a time");
    library.refused(Mono::default());
    let second = Now { mono: Mono::new(Duration::from_secs(1)), ..Now::default() };
    assert_eq!(library.deadline(), Some(second.mono));
    assert!(library.next_job(folder, second.mono).is_some(), "a refused step is due again");
    let old = library.pass;
    library.indexed(step(old, found(2, "r", 1), Some("b")), second);
    let Some(LibraryJob::Index(index)) = library.next_job(folder, second.mono) else { panic!() };
    assert_eq!((index.after.as_deref(), index.describe), (Some("b"), true));
    assert!(library.list(None, None, None).unwrap().indexing);
    library.clear();
    library.begin();
    library.indexed(step(old, found(1, "r", 1), None), second);
    assert!(library.entries.is_empty() && library.is_incomplete());
}

#[test]
fn a_file_that_storage_finds_again_replaces_its_entry_and_keeps_the_books() {
    let mut library = library(3);
    let mut again = found(1, "r", 1);
    again.octets = 76;
    library.put(Entry::new(&again, 0));
    assert_eq!(library.entries.len(), 3);
    assert_eq!(library.get(&again.file).unwrap().listed().size_bytes, 76);
    library.remove(&again.file);
    library.remove("no such file");
    let texts: usize = library.entries.iter().map(|entry| entry.text.len()).sum();
    assert_eq!((library.entries.len(), library.text_octets), (2, texts));
    assert_eq!(files(&library.list(None, None, None).unwrap()).len(), 2);
}

proptest! {
    #[test]
    fn an_entry_gives_back_what_was_packed(texts in prop::collection::vec("\\PC{0,40}", 6)) {
        let mut found = found(0, &texts[0], 1);
        let call = &mut found.sidecar.as_mut().unwrap().call;
        call.id.clone_from(&texts[1]);
        call.remote_number.clone_from(&texts[2]);
        call.remote_name.clone_from(&texts[3]);
        call.local_number.clone_from(&texts[4]);
        call.local_name.clone_from(&texts[5]);
        let listed = Entry::new(&found, 0).listed();
        prop_assert_eq!(&listed.file, &found.file);
        prop_assert_eq!(&listed.call, &found.sidecar.unwrap().call);
        prop_assert_eq!(listed.recording.unwrap_or_default(), texts[0].clone());
    }

    #[test]
    fn a_search_agrees_with_the_plain_way(text in "[aAbBäÄ1]{0,6}", query in "[aAbBäÄ1]{0,3}") {
        let plain = text.to_lowercase().contains(&query.to_lowercase());
        prop_assert_eq!(Wanted(query.to_lowercase()).is_in(&text), plain);
    }
}

#[test]
fn who_called_whom_is_in_no_list_of_encrypted_recordings() {
    let entry = |encrypted| Entry::new(&FileSummary { encrypted, ..found(0, "r", 1) }, 3600);
    let mut listed = entry(true);
    listed.set_call(&Call { remote_number: "305".into(), ..Call::default() });
    let shown = listed.listed();
    assert!(shown.encrypted && shown.call == Call::default() && shown.recording.is_some());
    assert!(!entry(false).listed().encrypted && entry(false).listed().call != Call::default());
    let mut library = LibraryIndex::default();
    library.begin();
    library.put(entry(true));
    assert_eq!(library.list(None, None, Some("Berg")).unwrap().recordings.len(), 0);
    assert_eq!(library.list(None, None, None).unwrap().recordings.len(), 1);
}
