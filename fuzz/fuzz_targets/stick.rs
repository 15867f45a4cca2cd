//! A stick with any names and sidecars: every pass over its folder ends, nothing outside of the folder is touched, and
//! what makes room deletes recordings alone.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use media::time::Mono;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use store::fs::RealFs;
use store::jobs::library::{Index, LibraryDone, LibraryJob};
use store::jobs::{Done, Folder, Job};
use store::writer::Writer;
use store::writer::per_file::PerFile;

#[derive(arbitrary::Arbitrary, Debug)]
enum Entry<'a> {
    Recording { number: u8, octets: &'a [u8], sidecar: Option<&'a [u8]> },
    File(&'a str, &'a [u8]),
    Folder(&'a str),
    Link(&'a str),
}

/// More turns than any folder of this size needs.
const TURNS: usize = 200;

fn plain(name: &str) -> Option<&str> {
    let good =
        !name.is_empty() && name.len() < 200 && !name.contains(['/', '\0']) && name != "." && name != "..";
    good.then_some(name)
}

/// Writes a new file: through a link of another entry, this program itself would write outside.
fn write_new(path: PathBuf, octets: &[u8]) {
    if let Ok(mut file) = File::create_new(path) {
        let _ = file.write_all(octets);
    }
}

fn make(folder: &Path, outside: &Path, entry: Entry<'_>) {
    match entry {
        Entry::Recording { number, octets, sidecar } => {
            let stem = format!("Record_20260301-0915{:02}", number % 60);
            let header =
                [&b"PCMA"[..], &[0; 60], &160_i32.to_le_bytes(), &160_i32.to_le_bytes(), &[0; 4]].concat();
            write_new(folder.join(format!("{stem}.wav")), &[&header[..], octets].concat());
            if let Some(sidecar) = sidecar {
                write_new(folder.join(format!("{stem}.json")), sidecar);
            }
        }
        Entry::File(name, octets) => drop(plain(name).map(|name| write_new(folder.join(name), octets))),
        Entry::Folder(name) => drop(plain(name).map(|name| std::fs::create_dir(folder.join(name)))),
        Entry::Link(name) => {
            drop(plain(name).map(|name| std::os::unix::fs::symlink(outside, folder.join(name))))
        }
    }
}

fuzz_target!(|entries: Vec<Entry<'_>>| {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    let root = base.join(format!("recordd-fuzz-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(root.join("Record")).unwrap();
    let outside = root.join("outside.wav");
    std::fs::write(&outside, "PCMA of somebody else").unwrap();
    for entry in entries.into_iter().take(64) {
        make(&root.join("Record"), &outside, entry);
    }
    let device = std::fs::metadata(&root).unwrap().dev();
    let folder = Folder { root: root.clone(), device, name: "Record".into() };
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::default());
    let mut after = None;
    let mut turns = 0;
    loop {
        turns += 1;
        assert!(turns < TURNS, "the pass does not end");
        let index = Index { pass: 1, folder: folder.clone(), after: after.clone(), limit: 8, describe: true };
        match writer.handle(Job::Library(LibraryJob::Index(index))).unwrap() {
            Done::Library(LibraryDone::Indexed(step)) if step.unfinished || step.next.is_some() => {
                if !step.unfinished {
                    after = step.next;
                }
            }
            _ => break,
        }
    }
    for turn in 0.. {
        assert!(turn < TURNS, "making room does not end");
        match writer.handle(Job::DeleteOldest { folder: folder.clone(), running: Vec::new() }).unwrap() {
            Done::Searching => {}
            Done::Deleted { file: Some(file), .. } => {
                assert!(file.to_ascii_lowercase().ends_with(".wav"), "{file}")
            }
            _ => break,
        }
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "PCMA of somebody else");
    let _ = std::fs::remove_dir_all(&root);
});
