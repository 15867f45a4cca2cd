//! Who may read recordings, and who may talk to the agent.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::support::agent::{output_of, recordctl_copied_to, recordd, recordd_copied_to};
use crate::support::environment::skip_here;
use crate::support::{Agent, Call, Codec, Setup, patience, wait_until};

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

/// The modes of the files and folders of a call, while it is recorded and afterwards.
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
    // Root may give files to any group, also after it has given up privileges.
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

#[test]
fn the_sockets_group_may_talk_to_the_agent_and_others_may_not() {
    const GROUP: u32 = 4242;
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return skip_here("to give a socket to any group, and to connect as another user, takes root");
    }
    let agent = Setup::new().quoted("control", "group", &GROUP.to_string()).start();
    // It is bound first, for nobody but its owner, and given away then.
    wait_until("the socket's group", patience(), || {
        let socket = fs::metadata(&agent.socket).unwrap();
        (socket.gid(), socket.mode() & 0o777) == (GROUP, 0o660)
    });
    fs::set_permissions(agent.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    for (gid, welcome) in [(GROUP, true), (NOBODY, false)] {
        let mut user = recordctl_copied_to(agent.dir());
        let user = user.uid(NOBODY).gid(gid).current_dir("/").arg("--socket").arg(&agent.socket);
        let output = output_of(user.arg("status"));
        assert_eq!(output.status.success(), welcome, "group {gid}: {output:?}");
    }
}

#[test]
fn a_socket_that_cannot_go_to_its_group_is_told_at_the_start_and_by_the_check() {
    let setup = || Setup::new().quoted("control", "group", "no-such-group");
    let output = setup().run_to_end();
    assert_eq!(output.status.code(), Some(1));
    let checked = output_of(recordd().arg("--check-config").arg("--config").arg(setup().write_config()));
    assert_eq!(checked.status.code(), Some(2));
    for output in [output, checked] {
        let text = String::from_utf8_lossy(&output.stderr);
        let words = ["control.group", "no-such-group", "make the group"];
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_user_outside_the_sockets_group_cannot_start_an_agent_with_it() {
    const NOBODY: u32 = 65_534;
    let setup = Setup::new().quoted("control", "group", "0");
    let config = setup.write_config();
    let mut command = recordd_copied_to(setup.dir());
    if nix::unistd::geteuid().is_root() {
        for path in [setup.dir(), setup.storage_path()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    let output = output_of(command.arg("--config").arg(config));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("control.group") && text.contains("member"), "{text}");
    assert!(!setup.dir().join("recordd.sock").exists());
}
