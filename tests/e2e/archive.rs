//! The recorder beside an archive that dies, whose disk is full, whose database can't be written, and that
//! gets no memory: no packet is lost, and what was recorded meanwhile is taken in later.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::agent::beside_recordd;
use crate::support::environment::{SmallDisk, has_program, skip};
use crate::support::server::Server;
use crate::support::{Call, Codec, Setup, patience, read_recording, wait_until};

/// An archive over the folder of a recording server; killed when dropped.
struct Archive(Child);

impl Archive {
    /// The archive's command line; `RECORDARCHIVE_TEST_BINARY` names it where the programs beside the agent
    /// are emulated.
    fn command(data: &Path, intake: &Path) -> Option<Command> {
        let named = std::env::var_os("RECORDARCHIVE_TEST_BINARY").map(PathBuf::from);
        let program = named.unwrap_or_else(|| beside_recordd("recordarchive"));
        if !program.is_file() {
            skip("recordarchive is not there: build the whole workspace");
            return None;
        }
        let mut command = Command::new(program);
        command.arg("--data").arg(data).arg("--intake").arg(intake);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Some(command)
    }

    /// Starts one; `None` if it ends before it serves.
    fn start(data: &Path, intake: &Path) -> Option<Self> {
        let mut command = Self::command(data, intake)?;
        let mut process = command.args(["serve", "--listen", "127.0.0.1:0"]).spawn().expect("recordarchive");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let archive = Self(process);
        line.contains("listens on").then_some(archive)
    }

    /// Starts one with `mib` MiB of memory, whatever becomes of it, and kills it after a while; what it said.
    fn try_within(mib: u64, data: &Path, intake: &Path) -> String {
        let of_archive = Self::command(data, intake).expect("it was there");
        let told = data.join("told");
        let mut command = Command::new("prlimit");
        command.arg(format!("--as={}", mib << 20)).arg(of_archive.get_program()).args(of_archive.get_args());
        command.args(["serve", "--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null());
        let archive = Self(command.stderr(File::create(&told).expect("a file")).spawn().expect("prlimit"));
        std::thread::sleep(Duration::from_millis(400));
        drop(archive);
        std::fs::read_to_string(told).expect("a file")
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Goes on speaking in real time while `work` runs.
fn speak_while(call: &mut Call, heard: &mut Vec<u8>, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let work = scope.spawn(work);
        while !work.is_finished() {
            heard.extend(call.speak_in_real_time(5));
        }
    });
}

#[test]
fn an_archive_that_is_killed_full_or_read_only_costs_the_recorder_nothing() {
    let storage = tempfile::tempdir().expect("a folder");
    let Some(server) = Server::real_with(Some(storage.path()), "") else { return };
    let Some(disk) = SmallDisk::mount(16 << 10) else { return };
    let data = disk.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    if Archive::command(&data, storage.path()).is_none() {
        return;
    }
    let agent = Setup::new().uploads_to(server.addr).start();
    let start =
        |id: &str| Call::start_with(&agent, Codec::Pcma, json!({"mode": "server", "call": {"id": id}}));
    let mut call = start("c1");
    let mut heard = Vec::new();
    speak_while(&mut call, &mut heard, || {
        for _ in 0..3 {
            let _archive = Archive::start(&data, storage.path()).expect("an archive");
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    // Its disk is full: it goes on, and takes nothing in.
    let mut short_heard = Vec::new();
    speak_while(&mut call, &mut heard, || {
        let _archive = Archive::start(&data, storage.path()).expect("an archive");
        let mut filler = std::fs::File::create(disk.path().join("filler")).expect("a file");
        while filler.write_all(&[0; 4096]).is_ok() {}
        let mut short = start("c2");
        short_heard = short.speak(20);
        short.stop();
        std::thread::sleep(Duration::from_millis(1500));
    });
    // Its database can't be written: it says so, and ends.
    speak_while(&mut call, &mut heard, || {
        disk.make_read_only();
        assert!(Archive::start(&data, storage.path()).is_none());
    });
    call.stop();
    assert_all_is_there(&server, storage.path(), [heard, short_heard]);
}

/// Both calls are recorded whole, and an archive with room for its own takes both in.
fn assert_all_is_there(server: &Server, storage: &Path, mut all: [Vec<u8>; 2]) {
    let ended = || {
        let said = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        server.files("json").iter().filter(|path| said(path).contains("stopped")).count()
    };
    wait_until("both files of the server", patience(), || ended() == 2);
    let files = server.files("wav");
    all.sort_by_key(Vec::len);
    let mut recordings: Vec<_> = files.iter().map(|path| read_recording(path)).collect();
    recordings.sort_by_key(|recording| recording.data.len());
    for (recording, audio) in recordings.iter().zip(&all) {
        recording.assert_finished(Codec::Pcma, audio);
    }
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut rebuild = Archive::command(elsewhere.path(), storage).expect("it was there");
    let told = rebuild.arg("rebuild").output().expect("recordarchive");
    assert!(told.status.success(), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stdout).contains("2 new"), "{told:?}");
}

#[test]
fn an_archive_that_gets_no_memory_costs_the_recorder_nothing() {
    if !has_program("prlimit") {
        return skip("there is no prlimit");
    }
    let storage = tempfile::tempdir().expect("a folder");
    let Some(server) = Server::real_with(Some(storage.path()), "") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let (data, intake) = (data.path(), storage.path());
    if Archive::command(data, intake).is_none() {
        return;
    }
    let agent = Setup::new().uploads_to(server.addr).start();
    let start =
        |id: &str| Call::start_with(&agent, Codec::Pcma, json!({"mode": "server", "call": {"id": id}}));
    let mut call = start("c1");
    let mut heard = Vec::new();
    // From what is too little to begin with to what is enough; a call ends meanwhile, which it would take in.
    let (mut told, mut short_heard) = (Vec::new(), Vec::new());
    speak_while(&mut call, &mut heard, || {
        for mib in (16..=96).step_by(8) {
            told.push(Archive::try_within(mib, data, intake));
            if mib == 40 {
                let mut short = start("c2");
                short_heard = short.speak(20);
                short.stop();
            }
        }
    });
    assert!(told.iter().any(|told| told.contains("memory")), "none was short of it: {told:?}");
    call.stop();
    assert_all_is_there(&server, storage.path(), [heard, short_heard]);
}
