//! `recordd.init`, which starts the agent where there is no service manager, under the shells that phones
//! have.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::agent::{output_of, recordd};
use crate::support::environment::{has_program, skip, write_program};
use crate::support::{Setup, patience, wait_for, wait_until};

/// The script as it lies on a phone, with an agent and a config of its own. Its processes end with it.
struct Script {
    shell: &'static [&'static str],
    setup: Setup,
    path: PathBuf,
}

impl Script {
    fn install(shell: &'static [&'static str]) -> Self {
        let setup = Setup::new();
        let path = setup.dir().join("S80recordd");
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/recordd.init"), &path).unwrap();
        // The agent may need an emulator.
        let agent = recordd();
        let words = [agent.get_program()].into_iter().chain(agent.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let program = setup.dir().join("recordd");
        write_program(&program, &format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")));
        setup.write_config();
        Self { shell, setup, path }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.setup.dir().join(name)
    }

    fn run(&self, word: &str) -> Output {
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).arg(&self.path).arg(word);
        command.env("RECORDD", self.file("recordd")).env("RECORDD_CONFIG", self.file("recordd.toml"));
        // Programs of a test stand before those of the system.
        let system = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{system}", self.file("bin").display()));
        output_of(command.env("RECORDD_RUN", self.setup.dir()))
    }

    /// The agent's process id, if there is one.
    fn status(&self) -> Option<i32> {
        let output = self.run("status");
        let said = String::from_utf8(output.stdout).unwrap();
        match output.status.code() {
            Some(0) => {
                let pid = said.trim().strip_prefix("recordd is running (process ").expect(&said);
                Some(pid.trim_end_matches(')').parse().unwrap())
            }
            code => {
                assert_eq!((code, said.as_str()), (Some(3), "recordd is not running\n"));
                None
            }
        }
    }

    fn do_well(&self, word: &str) -> String {
        let output = self.run(word);
        assert!(output.status.success(), "{word}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits for an agent that answers, and is another one than `before`.
    fn wait_for_agent(&self, before: Option<i32>) -> i32 {
        let socket = self.file("recordd.sock");
        wait_for("an agent", patience(), || {
            UnixStream::connect(&socket).ok()?;
            self.status().filter(|pid| Some(*pid) != before)
        })
    }

    /// Processes of the script that were begun by this word.
    fn processes(&self, word: &str) -> Vec<i32> {
        let path = self.path.to_str().unwrap();
        let of = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            line.contains(&format!("{path}\0{word}\0")).then_some(pid)
        };
        fs::read_dir(Path::new("/proc")).unwrap().flatten().filter_map(of).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.run("stop");
    }
}

fn starts_and_starts_again_until_it_is_stopped(shell: &'static [&'static str]) {
    let script = Script::install(shell);
    assert_eq!(script.status(), None);
    assert_eq!(script.do_well("start"), "");
    let first = script.wait_for_agent(None);
    assert_eq!(script.do_well("start"), "recordd is running\n");
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let second = script.wait_for_agent(Some(first));
    script.do_well("restart");
    script.wait_for_agent(Some(second));
    wait_until("the end of what the first start left", patience(), || script.processes("start").is_empty());
    script.do_well("stop");
    assert_eq!(script.status(), None);
    wait_until("the end of the script", patience(), || script.processes("restart").is_empty());
    for name in ["recordd.run", "recordd.pid", "recordd.sock"] {
        assert!(!script.file(name).exists(), "{name} is left");
    }
}

#[test]
fn the_init_script_starts_the_agent_again_until_it_is_stopped() {
    starts_and_starts_again_until_it_is_stopped(&["sh"]);
}

#[test]
fn the_init_script_does_the_same_in_the_shell_of_busybox() {
    if !has_program("busybox") {
        return skip("there is no busybox");
    }
    starts_and_starts_again_until_it_is_stopped(&["busybox", "sh"]);
}

#[test]
fn a_stop_right_after_the_start_leaves_no_agent_behind() {
    let script = Script::install(&["sh"]);
    for _ in 0..5 {
        script.do_well("start");
        script.do_well("stop");
        wait_until("the end of the script", patience(), || script.processes("start").is_empty());
        assert_eq!(script.status(), None);
    }
}

#[test]
fn a_restart_keeps_the_number_of_the_new_agent_however_slowly_the_first_start_ends() {
    let script = Script::install(&["sh"]);
    script.do_well("start");
    let first = script.wait_for_agent(None);
    // Longer than a restart takes to notice that the old agent has ended.
    let rm = script.file("bin/rm");
    fs::create_dir(script.file("bin")).unwrap();
    write_program(&rm, "#!/bin/sh\ncase \"$*\" in *recordd.pid) sleep 2 ;; esac\nexec /bin/rm \"$@\"\n");
    script.do_well("restart");
    let second = script.wait_for_agent(Some(first));
    wait_until("the end of what the first start left", patience(), || script.processes("start").is_empty());
    assert_eq!(script.status(), Some(second));
    script.do_well("stop");
    assert_eq!(script.status(), None);
}

#[test]
fn the_init_script_does_not_try_a_wrong_config_again() {
    let script = Script::install(&["sh"]);
    fs::write(script.file("recordd.toml"), "[nonsense]\n").unwrap();
    script.do_well("start");
    wait_until("the end of the script", patience(), || script.processes("start").is_empty());
    assert!(!script.file("recordd.run").exists());
}

#[test]
fn the_number_of_another_program_is_not_taken_for_the_agents() {
    let script = Script::install(&["sh"]);
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(script.file("recordd.pid"), other.id().to_string()).unwrap();
    assert_eq!(script.status(), None);
    script.do_well("stop");
    assert_eq!(other.try_wait().unwrap(), None, "it was ended");
    other.kill().unwrap();
    other.wait().unwrap();
}
