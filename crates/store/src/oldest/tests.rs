use super::*;
use crate::fs::RealFs;
use crate::jobs::Job;
use crate::patience::STEP;
use crate::writer::Writer;
use crate::writer::per_file::PerFile;
use media::time::Mono;
use proptest::prelude::*;
use recfile::name::record_file_name;
use std::cell::Cell;

/// A finished recording.
fn finished(number: usize, start: Wall) -> Sidecar {
    Sidecar {
        recording: format!("r{number}"),
        start: start.rfc3339(),
        clock_set: start.is_set(),
        end_reason: Some("stopped".into()),
        ..Sidecar::default()
    }
}

/// Leaves a recording; gives its name.
fn leave(folder: &Path, number: usize, start: Wall, sidecar: &Sidecar) -> String {
    let name = record_file_name(start, u32::try_from(number).unwrap() + 2);
    std::fs::write(folder.join(&name), [7; 80]).unwrap();
    std::fs::write(folder.join(sidecar_name(&name)), sidecar.to_json()).unwrap();
    name
}

fn set_modified(path: &Path, unix_ms: i64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms.unsigned_abs());
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn folder_of(path: &Path) -> Folder {
    Folder { root: path.into(), device: RealFs.device(path).unwrap(), name: String::new() }
}

/// Asks as often as it takes; returns the deleted file, and how often others had their turn.
fn delete(writer: &mut Writer<RealFs>, path: &Path) -> (Option<String>, usize) {
    let mut steps = 0;
    loop {
        match writer.handle(Job::DeleteOldest { folder: folder_of(path), running: Vec::new() }).unwrap() {
            Done::Searching => steps += 1,
            Done::Deleted { file, .. } => return (file, steps),
            other => panic!("{other:?}"),
        }
    }
}

/// Everything that goes, in order.
fn all_that_goes(path: &Path) -> Vec<String> {
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    std::iter::from_fn(|| delete(&mut writer, path).0).collect()
}

const JUNE_MS: i64 = 1_780_308_000_000;

fn at(unix_ms: i64) -> Wall {
    Wall { unix_ms, utc_offset_s: 7200 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_earliest_start_gives_way_first_for_any_time_zones(
        starts in prop::collection::vec((0..400_000i64, -12..=14i32), 1..50),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut expected: Vec<(i64, String)> = Vec::new();
        for (number, (second, hours)) in starts.into_iter().enumerate() {
            let start = Wall { unix_ms: 1_772_352_900_000 + second * 1000, utc_offset_s: hours * 3600 };
            expected.push((start.unix_ms, leave(dir.path(), number, start, &finished(number, start))));
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| order_key(&a.1).cmp(&order_key(&b.1))));
        let names: Vec<String> = expected.into_iter().map(|(_, name)| name).collect();
        prop_assert_eq!(all_that_goes(dir.path()), names);
    }

    #[test]
    fn files_go_in_the_order_of_their_making_for_any_clocks(
        clocks in prop::collection::vec(
            prop::sample::select(vec![0, 1000, 946_684_800_000, JUNE_MS, JUNE_MS + 60_000, 2_240_000_000_000]),
            1..50,
        ),
        begin in 0..2_000_000_000_000_u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        // No order is before the time in the name of a set clock.
        let mut order = begin;
        let mut names = Vec::new();
        for (number, clock) in clocks.into_iter().enumerate() {
            let start = at(clock);
            order = if start.is_set() { (order + 1).max(clock.unsigned_abs()) } else { order + 1 };
            let sidecar = Sidecar { order: Some(order), ..finished(number, start) };
            names.push(leave(dir.path(), number, start, &sidecar));
        }
        prop_assert_eq!(all_that_goes(dir.path()), names);
    }
}

#[test]
fn without_an_order_an_unset_clock_is_told_by_the_end_the_last_change_or_goes_after_those_that_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let minute = 60_000;
    let file = |number: usize, start: i64, change: &dyn Fn(&mut Sidecar), modified: i64| {
        let mut sidecar = finished(number, at(start));
        change(&mut sidecar);
        let name = leave(path, number, at(start), &sidecar);
        set_modified(&path.join(&name), modified);
        name
    };
    let plain: &dyn Fn(&mut Sidecar) = &|_| {};
    let first = file(1, JUNE_MS, plain, JUNE_MS);
    let third = file(2, JUNE_MS + 2 * minute, plain, JUNE_MS + 2 * minute);
    let last = file(3, JUNE_MS + 9 * minute, plain, JUNE_MS + 9 * minute);
    // The clock was set in mid-call, an hour's change of the file later.
    let ended: &dyn Fn(&mut Sidecar) = &|it| {
        it.duration_ms = 30_000;
        it.end = Some(at(JUNE_MS + minute + 30_000).rfc3339());
    };
    let second = file(4, 7000, ended, JUNE_MS + 60 * minute);
    let fourth = file(5, 5000, plain, JUNE_MS + 3 * minute);
    let unknown = file(6, 6000, plain, 315_532_800_000);
    let ordered = |order| move |it: &mut Sidecar| it.order = Some(order);
    let newest = file(7, 4000, &ordered(1_780_400_000_001), 4000);
    let newer = file(8, JUNE_MS - 9 * minute, &ordered(1_780_400_000_000), 4000);
    assert_eq!(all_that_goes(path), [first, second, third, fourth, last, unknown, newer, newest]);
}

#[test]
fn the_call_just_made_in_1970_goes_last_and_the_calls_of_a_set_clock_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut names: Vec<String> = (0..8)
        .map(|number| {
            let start = at(JUNE_MS + 60_000 * i64::try_from(number).unwrap());
            leave(dir.path(), number, start, &finished(number, start))
        })
        .collect();
    let mut numbers = crate::order::Numbers::default();
    for (number, ms) in (8..12).zip([100_000, 160_000, 100_000, 50_000]) {
        // Twice the phone has started anew.
        if number % 2 == 0 {
            numbers = crate::order::Numbers::default();
        }
        let order = numbers.next(&RealFs, &folder_of(dir.path()), at(ms), Mono::default);
        let sidecar = Sidecar { order: Some(order), ..finished(number, at(ms)) };
        names.push(leave(dir.path(), number, at(ms), &sidecar));
    }
    assert_eq!(all_that_goes(dir.path()), names);
}

#[test]
fn files_protected_running_or_played_since_the_pass_stay() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<(Sidecar, String)> = (0..4)
        .map(|number| {
            let start = at(JUNE_MS + 60_000 * i64::try_from(number).unwrap());
            let sidecar = finished(number, start);
            let name = leave(dir.path(), number, start, &sidecar);
            (sidecar, name)
        })
        .collect();
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    assert_eq!(delete(&mut writer, dir.path()).0.as_ref(), Some(&files[0].1));
    let protected = Sidecar { protected: true, ..files[1].0.clone() };
    std::fs::write(dir.path().join(sidecar_name(&files[1].1)), protected.to_json()).unwrap();
    let held = RealFs.open(&dir.path().join(&files[2].1)).unwrap();
    assert!(RealFs.lock(&held).unwrap());
    assert_eq!(delete(&mut writer, dir.path()).0.as_ref(), Some(&files[3].1));
    assert_eq!(delete(&mut writer, dir.path()).0, None);
    drop(held);
    assert_eq!(delete(&mut writer, dir.path()).0.as_ref(), Some(&files[2].1));
    std::fs::write(dir.path().join(sidecar_name(&files[1].1)), files[1].0.to_json()).unwrap();
    assert_eq!(delete(&mut writer, dir.path()).0.as_ref(), Some(&files[1].1));
}

#[test]
fn a_call_that_is_between_two_of_its_files_keeps_those_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (call, other) = (finished(0, at(JUNE_MS)), finished(2, at(JUNE_MS + 60_000)));
    let first = leave(dir.path(), 0, at(JUNE_MS), &call);
    leave(dir.path(), 1, at(JUNE_MS), &Sidecar { segment: 2, ..call.clone() });
    let other = leave(dir.path(), 2, at(JUNE_MS + 60_000), &other);
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    let mut delete = |running: &[&str]| {
        let running = running.iter().map(ToString::to_string).collect();
        match writer.handle(Job::DeleteOldest { folder: folder_of(dir.path()), running }).unwrap() {
            Done::Deleted { file, .. } => file,
            done => panic!("{done:?}"),
        }
    };
    assert_eq!(delete(&[&call.recording]), Some(other));
    assert_eq!(delete(&[&call.recording]), None);
    assert_eq!(delete(&[]), Some(first));
    assert_eq!(delete(&[&call.recording]), None, "the results of the last search");
}

#[test]
fn files_of_others_stay_and_cost_no_look() {
    let dir = tempfile::tempdir().unwrap();
    let start = at(JUNE_MS);
    let theirs = leave(dir.path(), 0, start, &Sidecar { recording: String::new(), ..finished(0, start) });
    let open = leave(dir.path(), 1, start, &Sidecar { state: SidecarState::Recording, ..finished(1, start) });
    let no_sidecar = leave(dir.path(), 2, start, &finished(2, start));
    std::fs::remove_file(dir.path().join(sidecar_name(&no_sidecar))).unwrap();
    let no_file = leave(dir.path(), 3, start, &finished(3, start));
    std::fs::remove_file(dir.path().join(&no_file)).unwrap();
    std::os::unix::fs::symlink(dir.path().join(&theirs), dir.path().join(&no_file)).unwrap();
    let deep = leave(dir.path(), 4, start, &finished(4, start));
    std::fs::write(dir.path().join(sidecar_name(&deep)), "[".repeat(100_000)).unwrap();
    assert_eq!(all_that_goes(dir.path()), Vec::<String>::new());
    assert!(dir.path().join(open).exists());
}

thread_local! {
    static LOOKS: Cell<u32> = const { Cell::new(0) };
}

/// A clock by which each look at it takes much of a step.
fn hasty() -> Mono {
    LOOKS.set(LOOKS.get() + 1);
    Mono::new(STEP * LOOKS.get() / 4)
}

#[test]
fn a_search_lets_others_have_their_turn_finds_the_same_and_remembers_the_next_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for number in 0..300_usize {
        let start = at(JUNE_MS + 7_200_000 * i64::try_from(number * 7 % 300).unwrap());
        let name = leave(dir.path(), number, start, &finished(number, start));
        names.push((start.unix_ms, name));
        std::fs::write(dir.path().join(format!("Record_20200101-{number:06}.wav")), "").unwrap();
    }
    names.sort();
    let mut writer = Writer::new(RealFs, hasty, PerFile::default());
    let (first, steps) = delete(&mut writer, dir.path());
    assert_eq!(first.as_ref(), Some(&names[0].1));
    assert!(steps > 5, "{steps}");
    let mut searches = 0;
    for (_, name) in &names[1..4 * MAX_OLDEST] {
        let (next, steps) = delete(&mut writer, dir.path());
        assert_eq!(next.as_ref(), Some(name));
        searches += usize::from(steps > 0);
    }
    assert!(searches < 6, "{searches}");
}

#[test]
fn a_call_of_another_agent_with_more_files_than_are_remembered_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let long = |number: usize, state, reason: Option<&str>| {
        let start = at(JUNE_MS + 60_000 * i64::try_from(number).unwrap());
        let sidecar = Sidecar {
            recording: "theirs".into(),
            state,
            end_reason: reason.map(Into::into),
            ..finished(number, start)
        };
        leave(dir.path(), number, start, &sidecar)
    };
    for number in 0..2 * MAX_OLDEST {
        long(number, SidecarState::Ended, Some("rollover"));
    }
    let running = long(2 * MAX_OLDEST, SidecarState::Recording, None);
    let held = RealFs.open(&dir.path().join(running)).unwrap();
    assert!(RealFs.lock(&held).unwrap());
    let start = at(JUNE_MS + 90_000_000);
    let other = leave(dir.path(), 999, start, &finished(999, start));
    assert_eq!(all_that_goes(dir.path()), [other]);
    drop(held);
    assert_eq!(all_that_goes(dir.path()).len(), 2 * MAX_OLDEST);
}
