//! Who may read what the agent records.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::support::{Agent, Call, Codec, Setup};

/// Modes of everything below a folder, by kind.
fn modes(folder: &Path) -> (Vec<u32>, Vec<u32>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        if entry.path().is_dir() {
            folders.push(mode);
            let (below, deeper) = modes(&entry.path());
            files.extend(below);
            folders.extend(deeper);
        } else {
            files.push(mode);
        }
    }
    (files, folders)
}

/// What a call leaves, while it is recorded and afterwards.
fn record(agent: &Agent) -> [(Vec<u32>, Vec<u32>); 2] {
    let mut call = Call::start(agent, Codec::Pcma);
    let heard = call.speak(10);
    let during = modes(agent.storage());
    call.finish_and_expect(&heard);
    [during, modes(agent.storage())]
}

#[test]
fn recordings_sidecars_and_their_folder_are_the_owners_alone_whatever_the_umask() {
    let agent = Setup::new().quoted("storage", "directory", "Record").start();
    for (files, folders) in record(&agent) {
        assert_eq!((files, folders), (vec![0o600; 2], vec![0o700]));
    }
}

#[test]
fn a_group_that_is_named_may_read_recordings() {
    let own = fs::metadata("/proc/self").unwrap();
    // Root may give files to any group, also when it has laid down what it does not need.
    let gid = if own.uid() == 0 { 4242 } else { own.gid() };
    let setup = Setup::new().quoted("storage", "directory", "Record");
    let agent = setup.quoted("storage", "recordings_group", &gid.to_string()).start();
    for (files, folders) in record(&agent) {
        assert_eq!((files, folders), (vec![0o640; 2], vec![0o750]));
    }
    for file in agent.recordings() {
        assert_eq!(fs::metadata(&file).unwrap().gid(), gid, "{}", file.display());
    }
}

#[test]
fn a_group_that_is_not_there_is_named_at_the_start() {
    let output = Setup::new().quoted("storage", "recordings_group", "no-such-group").run_to_end();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("storage.recordings_group") && text.contains("no-such-group"), "{text}");
}
