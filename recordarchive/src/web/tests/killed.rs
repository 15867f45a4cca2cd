//! Processes that are killed at any moment, in the middle of intake, holds, deletions and exports:
//! acknowledged work is there, held calls are whole, and the rest goes on.

use crate::access::Condition;
use crate::access::audit::{Check, Entry};
use crate::catalogue::Catalogue;
use crate::catalogue::export::{Export, State};
use crate::catalogue::model::{CallView, Decision, Scope, Search, Verdict};
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::clock;
use crate::id::{Id, random_octets};
use crate::jobs::checkpoint;
use crate::jobs::deletion::execute;
use crate::jobs::export::{self, look, path as package};
use crate::jobs::holds::write;
use crate::jobs::intake::Intake;
use crate::jobs::verify_export::check;
use crate::media::derived::Store;
use crate::media::vault::Vault;
use crate::query::Query;
use crate::testing::{catalogue, record, run, site};
use crate::time::DAY_US;
use ::media::codec::Codec;
use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// The folder of the process that is killed. Without it the test of its name does nothing.
const FOLDER: &str = "RECORDARCHIVE_KILLED_FOLDER";
const ROUNDS: u32 = 14;
const DAY: &str = "0c:11/2026-11-27";

struct Place {
    folder: PathBuf,
    catalogue: Arc<SqliteCatalogue>,
}

impl Place {
    async fn open(folder: &Path) -> Self {
        Self { folder: folder.into(), catalogue: catalogue(folder).await }
    }

    fn day(&self) -> PathBuf {
        self.folder.join("intake").join(DAY)
    }

    async fn reconcile(&self) {
        let catalogue = Arc::clone(&self.catalogue) as Arc<dyn Catalogue>;
        Intake::new(catalogue, site(), self.folder.join("intake")).reconcile(false).await.unwrap();
    }

    async fn calls(&self) -> Vec<CallView> {
        let query = Query::default();
        let mut search = Search { query, from_us: 0, to_us: i64::MAX, behind: None, limit: 200 };
        let mut all = Vec::new();
        loop {
            let page = self.catalogue.search(&search, &Condition::All).await.unwrap();
            all.extend(page.calls);
            search.behind = page.next;
            if search.behind.is_none() {
                return all;
            }
        }
    }

    async fn make_exports(&self) {
        let keys = self.folder.join("keys");
        let vault = Vault::default();
        look(&*self.catalogue, &self.folder, "Main office", || checkpoint::key(&keys), &vault).await.unwrap();
    }

    async fn delete_due(&self) -> usize {
        let later = clock::now_us() + 8 * DAY_US;
        execute(&*self.catalogue, &Store::new(&self.folder), later).await.unwrap()
    }

    /// Does one thing by chance, and notes it when it is acknowledged.
    async fn act(&self, chance: u8, said: &mut File) {
        let now_us = clock::now_us();
        let calls = self.calls().await;
        let call = calls.get(usize::from(chance) % calls.len().max(1));
        let id = call.and_then(|call| Id::parse(&call.id));
        let entry = |who: &str| Entry::new(now_us, who, "test", "");
        match (chance % 8, id) {
            (3, Some(id)) => {
                let hold = Id::random(now_us);
                let decision = Decision { id: hold.to_string(), name: "h".into(), ..Decision::default() };
                let scope = Scope::Calls(vec![id]);
                let placed =
                    self.catalogue.place_hold(&decision, &scope, &Condition::All, &entry("anna")).await;
                if let Ok(Some(_)) = placed {
                    writeln!(said, "hold {id}").unwrap();
                }
                write(&*self.catalogue).await.unwrap();
            }
            (4, Some(id)) => {
                let deletion = Id::random(now_us);
                let asked =
                    self.catalogue.ask_deletion(deletion, &[id], "r", &Condition::All, &entry("anna")).await;
                if let Ok(Some(_)) = asked {
                    let verdict = Verdict::Approve;
                    let decided = self
                        .catalogue
                        .decide_deletion(deletion, verdict, "", &Condition::All, &entry("otto"))
                        .await;
                    if decided.is_ok() {
                        writeln!(said, "trash {id}").unwrap();
                    }
                }
            }
            (5, _) => drop(self.delete_due().await),
            (6, Some(id)) => {
                let export = Export {
                    id: Id::random(now_us),
                    account: Id([7; 16]),
                    by: "ines".into(),
                    reason: "r".into(),
                    calls: vec![id],
                    originals: true,
                    mask_numbers: false,
                    as_stored: false,
                    asked_us: now_us,
                    expires_us: now_us + DAY_US,
                    state: State::Running,
                    decided: None,
                    octets: 0,
                    sha256: String::new(),
                    problem: String::new(),
                };
                self.catalogue.add_export(&export, &export::entries(&export, None)).await.unwrap();
                writeln!(said, "export {}", export.id).unwrap();
                self.make_exports().await;
            }
            _ => {
                let name = format!("Record_{}.wav", crate::id::hex(&random_octets::<8>()));
                record(&self.day(), &name, Codec::Pcma, &random_octets::<1600>(), |_| {});
                self.reconcile().await;
                writeln!(said, "call {name}").unwrap();
            }
        }
    }

    /// Checks the state that has to hold at every moment.
    async fn judge(&self, said: &str) {
        assert_eq!(self.catalogue.check().await.unwrap(), Vec::<String>::new());
        let mut chain = Check::default();
        for link in self.catalogue.audit(0, 1_000_000).await.unwrap() {
            chain.next(&link).unwrap();
        }
        let is_whole = |call: &CallView| {
            call.recordings.iter().all(|recording| {
                // One that was killed before it had written the sidecar has none.
                let Some(name) = recording.recording.strip_prefix("rec-") else { return true };
                let json = name.replace(".wav", ".json");
                let sidecar = std::fs::read(self.day().join(json)).unwrap_or_default();
                self.day().join(name).exists() && recfile::sidecar::Sidecar::parse(&sidecar).is_ok()
            })
        };
        for call in self.calls().await {
            assert!(is_whole(&call), "{call:?}");
        }
        for held in said.lines().filter_map(|line| line.strip_prefix("hold ")) {
            let call = self.catalogue.call(Id::parse(held).unwrap(), &Condition::All).await.unwrap();
            let call = call.unwrap_or_else(|| panic!("{held} is held, and gone"));
            assert!(!call.holds.is_empty() && is_whole(&call), "{call:?}");
        }
    }
}

/// The process that is killed.
#[test]
fn killed_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    run(async {
        let place = Place::open(Path::new(&folder)).await;
        let mut said = File::options().append(true).create(true).open(place.folder.join("said")).unwrap();
        loop {
            place.act(random_octets::<1>()[0], &mut said).await;
        }
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "another process works meanwhile, and is killed then")]
fn killed_at_any_moment_nothing_that_was_acknowledged_is_lost_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let said = || std::fs::read_to_string(folder.path().join("said")).unwrap_or_default();
    for _ in 0..ROUNDS {
        let mut process = Command::new(&program)
            .args(["--exact", "web::tests::killed::killed_process"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ms = u64::from(u16::from_be_bytes(random_octets())) % 500;
        std::thread::sleep(Duration::from_millis(200 + ms));
        assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        process.kill().unwrap();
        process.wait().unwrap();
        run(async { Place::open(folder.path()).await.judge(&said()).await });
    }
    run(async {
        let place = Place::open(folder.path()).await;
        place.reconcile().await;
        while place.delete_due().await > 0 {}
        let said = said();
        place.judge(&said).await;
        let told = |kind: &str| -> HashSet<String> {
            said.lines().filter_map(|line| line.strip_prefix(kind)).map(|rest| rest.trim().into()).collect()
        };
        let (taken, trashed) = (told("call "), told("trash "));
        let files: HashSet<String> = std::fs::read_dir(place.day())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".wav"))
            .collect();
        let names: Vec<String> = place
            .calls()
            .await
            .iter()
            .flat_map(|call| &call.recordings)
            .filter_map(|recording| Some(recording.recording.strip_prefix("rec-")?.to_owned()))
            .collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "none is listed twice");
        assert!(names.iter().all(|name| files.contains(name)));
        // Missing calls are those that two people put in the trash; each killed process may lose one note of
        // it.
        let trashed = trashed.len() + usize::try_from(ROUNDS).unwrap();
        let gone = taken.difference(&files).count();
        assert!(gone <= trashed, "{gone} of {trashed} are gone");
        let in_trash = taken.iter().filter(|name| files.contains(*name) && !names.contains(name)).count();
        assert!(gone + in_trash <= trashed, "{gone} {in_trash} {trashed}");
        let exports = place.catalogue.exports(Id([7; 16])).await.unwrap();
        let running = exports.iter().filter(|export| export.state == State::Running).count();
        for _ in 0..running {
            place.make_exports().await;
        }
        let exports = place.catalogue.exports(Id([7; 16])).await.unwrap();
        let ids: HashSet<String> = exports.iter().map(|export| export.id.to_string()).collect();
        assert!(told("export ").is_subset(&ids) || ids.len() == 200);
        for export in &exports {
            match export.state {
                State::Ready => {
                    let checked = check(&package(&place.folder, export.id), None).unwrap();
                    assert_eq!(checked.problems, Vec::<String>::new());
                }
                State::Failed => assert!(!export.problem.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        assert!(taken.len() > 20, "{}", taken.len());
    });
}
