//! Packages of evidence, opened and checked by the programs that anybody has.

use super::{Answer, Archive};
use crate::catalogue::Catalogue;
use crate::jobs::checkpoint;
use crate::jobs::export::look;
use crate::jobs::verify_export::check;
use crate::testing::run;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

async fn ask(archive: &Archive, who: &str, body: &Value) -> Answer {
    let request = Request::post("/api/v1/exports").header("authorization", format!("Bearer {who}"));
    archive.ask(request.body(Body::from(body.to_string())).unwrap()).await
}

impl Archive {
    /// Makes the requested packages.
    async fn make_exports(&self) {
        let keys = self.folder.path().join("keys");
        let key = || checkpoint::key(&keys);
        let vault = &self.app.vault;
        look(&*self.catalogue, self.folder.path(), "Main office", key, vault).await.unwrap();
    }

    /// Asks for an export, and fetches its package.
    pub(super) async fn package(&self, body: &Value) -> PathBuf {
        let asked = ask(self, "invest", body).await;
        assert_eq!(asked.status, StatusCode::ACCEPTED, "{:?}", asked.json());
        let path = format!("/exports/{}", asked.json()["id"].as_str().unwrap());
        assert_eq!(asked.json()["state"], "running");
        let early = self.get("invest", &format!("{path}/package")).await;
        assert_eq!(early.status, StatusCode::CONFLICT);
        self.make_exports().await;
        let told = self.get("invest", &path).await.json();
        assert_eq!(told["state"], "ready", "{told}");
        let fetched = self.get("invest", &format!("{path}/package")).await;
        assert_eq!((fetched.status, fetched.header("content-type")), (StatusCode::OK, "application/zip"));
        assert_eq!(fetched.octets.len() as u64, told["octets"].as_u64().unwrap());
        let file = self.folder.path().join(format!("{}.zip", told["id"].as_str().unwrap()));
        std::fs::write(&file, &fetched.octets).unwrap();
        // Resumed in the middle it is the same.
        let rest = self.get_with("invest", &format!("{path}/package"), &[("range", "bytes=100-")]).await;
        assert_eq!(rest.status, StatusCode::PARTIAL_CONTENT);
        assert!(rest.octets == fetched.octets[100..]);
        file
    }
}

pub(super) fn run_in(folder: &Path, program: &str, args: &[&str]) -> Output {
    let run = Command::new(program).args(args).current_dir(folder).output();
    run.unwrap_or_else(|error| panic!("{program}: {error}; scripts/setup installs it"))
}

pub(super) fn unpacked(file: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let unzip = run_in(folder.path(), "unzip", &["-q", file.to_str().unwrap()]);
    assert!(unzip.status.success(), "{unzip:?}");
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let all =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}

#[test]
fn a_package_is_opened_and_checked_by_unzip_sha256sum_and_minisign() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (_, recording) = archive.recording("pcma").await;
        archive.get("agent", &format!("/recordings/{recording}/audio")).await;
        let file = archive.package(&json!({"q": "4711", "reason": "case 7"})).await;
        let folder = unpacked(&file);
        let wanted = [
            "README.txt",
            "calls",
            "custody.jsonl",
            "manifest.csv",
            "manifest.json",
            "manifest.json.minisig",
            "sha256sums.txt",
        ];
        assert_eq!(names(folder.path()), wanted);
        let sums = run_in(folder.path(), "sha256sum", &["-c", "--quiet", "--strict", "sha256sums.txt"]);
        assert!(sums.status.success(), "{sums:?}");
        let key = checkpoint::public_key(&archive.folder.path().join("keys")).unwrap().unwrap();
        let minisign = ["-V", "-P", &key.line(), "-m", "manifest.json"];
        let signed = run_in(folder.path(), "minisign", &minisign);
        assert!(signed.status.success(), "{signed:?}");
        // Three recordings, each playable, as it is stored, and with the recorder's sidecar.
        let calls = names(&folder.path().join("calls"));
        assert_eq!(calls.len(), 9, "{calls:?}");
        assert!(calls.iter().all(|name| name.contains("_in_+49301234711_201_")), "{calls:?}");
        for name in calls.iter().filter(|name| !name.contains("original")) {
            let wav = hound::WavReader::open(folder.path().join("calls").join(name)).unwrap();
            assert_eq!(wav.spec().bits_per_sample, 16, "{name}");
            assert!(wav.len() >= 8000, "{name}");
        }
        let original = calls.iter().find(|name| name.ends_with(".original.wav")).unwrap();
        let original = std::fs::read(folder.path().join("calls").join(original)).unwrap();
        let stored = ["Record_a.wav", "Record_u.wav", "Record_g.wav"]
            .map(|name| std::fs::read(archive.intake().join("0c:11/2026-11-27").join(name)).unwrap());
        assert!(stored.contains(&original));
        // The history has the listeners, and the export.
        let custody = std::fs::read_to_string(folder.path().join("custody.jsonl")).unwrap();
        let actions: Vec<String> = custody
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["action"].as_str().unwrap().to_owned())
            .collect();
        assert!(actions.contains(&"play".to_owned()), "{actions:?}");
        assert_eq!(actions.iter().filter(|action| *action == "export").count(), 3);
        let table = std::fs::read_to_string(folder.path().join("manifest.csv")).unwrap();
        assert!(table.starts_with("\u{feff}file,call,started"), "{table}");
        assert!(table.contains(",'+49 30 1234711,") && table.lines().count() == 4, "{table}");

        let checked = check(&file, Some(key)).unwrap();
        assert_eq!((checked.calls, checked.problems.as_slice()), (3, &[] as &[String]));
        assert_eq!(checked.good, 12);
    });
}

#[test]
fn a_package_that_was_changed_is_found_out() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let file = archive.package(&json!({"q": "codec:pcma", "reason": "case 7"})).await;
        let octets = std::fs::read(&file).unwrap();
        let changed = |at: usize| {
            let mut octets = octets.clone();
            octets[at] ^= 1;
            let other = archive.folder.path().join("changed.zip");
            std::fs::write(&other, &octets).unwrap();
            check(&other, None).map_or_else(|problem| vec![problem], |checked| checked.problems)
        };
        // In the audio, in the manifest, in the table.
        for text in [&b"data"[..], b"\"reason\": \"case 7\"", b"remote_number"] {
            let at = octets.windows(text.len()).position(|window| window == text).unwrap();
            assert!(!changed(at + text.len() + 2).is_empty(), "{}", String::from_utf8_lossy(text));
        }
        let other = crate::access::site_key::SiteKey::generate().public();
        let told = check(&file, Some(other)).unwrap().problems;
        assert!(told[0].contains("the signature is not that of the key"), "{told:?}");
        std::fs::write(&file, &octets[..octets.len() / 2]).unwrap();
        assert!(check(&file, None).is_err());
    });
}

#[test]
fn a_package_with_masked_numbers_has_no_number_and_no_name() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let both = json!({"q": "4711", "reason": "r", "mask_numbers": true, "originals": true});
        assert_eq!(ask(&archive, "invest", &both).await.status, StatusCode::BAD_REQUEST);
        let masked = json!({"q": "4711", "reason": "survey", "mask_numbers": true});
        let file = archive.package(&masked).await;
        let folder = unpacked(&file);
        for name in ["manifest.json", "manifest.csv", "README.txt", "custody.jsonl"] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(!text.contains("1234711") && !text.contains("Müller"), "{name}: {text}");
        }
        let calls = names(&folder.path().join("calls"));
        assert_eq!(calls.len(), 3);
        assert!(calls.iter().all(|name| name.contains("_+49xxx") && !name.contains("1234")), "{calls:?}");
    });
}

#[test]
fn an_export_is_for_those_who_may_and_for_who_asked_alone() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let body = json!({"calls": [call], "reason": "case 7"});
        for who in ["agent", "super", "auditor", "admin", "program"] {
            assert_eq!(ask(&archive, who, &body).await.status, StatusCode::FORBIDDEN, "{who}");
        }
        for (body, status) in [
            (json!({"calls": [call]}), StatusCode::BAD_REQUEST),
            (json!({"calls": [call], "reason": " "}), StatusCode::BAD_REQUEST),
            (json!({"calls": [], "reason": "x"}), StatusCode::BAD_REQUEST),
            (json!({"q": "9999999", "reason": "x"}), StatusCode::BAD_REQUEST),
            (
                json!({"calls": ["01234567-89ab-7def-8123-456789abcdef"], "reason": "x"}),
                StatusCode::NOT_FOUND,
            ),
        ] {
            assert_eq!(ask(&archive, "invest", &body).await.status, status, "{body}");
        }
        let asked = ask(&archive, "invest", &body).await.json();
        let path = format!("/exports/{}", asked["id"].as_str().unwrap());
        archive.make_exports().await;
        assert_eq!(archive.get("super", &path).await.status, StatusCode::FORBIDDEN);
        let listed = archive.get("invest", "/exports").await.json();
        assert_eq!(listed["exports"].as_array().unwrap().len(), 1);
        // Its entry comes before its octets, and its time ends.
        archive.get("invest", &format!("{path}/package")).await;
        let links = archive.catalogue.audit(0, 1000).await.unwrap();
        for action in ["export.create", "export", "export.make", "export.fetch"] {
            assert!(links.iter().any(|link| link.entry.action == action), "{action}");
        }
    });
}

#[test]
fn a_recording_that_cannot_be_read_is_named_and_the_rest_is_there() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let folder = archive.intake().join("0c:11/2026-11-27");
        std::fs::remove_file(folder.join("Record_a.wav")).unwrap();
        // One that ends before its end: nothing of it passes for a whole recording.
        let cut = std::fs::OpenOptions::new().write(true).open(folder.join("Record_u.wav")).unwrap();
        cut.set_len(4000).unwrap();
        let file = archive.package(&json!({"q": "4711", "reason": "case 7"})).await;
        let folder = unpacked(&file);
        let manifest = std::fs::read_to_string(folder.path().join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        let problems: Vec<&Value> = manifest["calls"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|call| call["recordings"].as_array().unwrap())
            .map(|recording| &recording["problem"])
            .filter(|problem| !problem.is_null())
            .collect();
        assert_eq!(problems.len(), 2);
        assert!(
            problems.iter().all(|problem| problem.as_str().unwrap().contains("can't be read")),
            "{problems:?}"
        );
        let playable = names(&folder.path().join("calls"));
        let playable = playable.iter().filter(|name| !name.contains("original")).count();
        assert_eq!(playable, 1, "that of G.722 alone");
        assert_eq!(check(&file, None).unwrap().problems, [] as [String; 0]);
    });
}

#[test]
fn an_export_waits_for_a_second_person_where_it_takes_one() {
    run(async {
        let archive = Archive::with(|config| config.export_approval = true).await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let body = json!({"calls": [call], "reason": "case 7"});
        let asked = ask(&archive, "invest", &body).await.json();
        assert_eq!(asked["state"], "waiting", "{asked}");
        let path = format!("/exports/{}", asked["id"].as_str().unwrap());
        archive.make_exports().await;
        let early = archive.get("invest", &format!("{path}/package")).await;
        assert_eq!(early.status, StatusCode::CONFLICT);
        assert!(early.json()["detail"].as_str().unwrap().contains("another person"));
        for (who, status) in [
            ("invest", StatusCode::FORBIDDEN),
            ("super", StatusCode::FORBIDDEN),
            ("admin", StatusCode::FORBIDDEN),
            ("branch", StatusCode::NOT_FOUND),
        ] {
            assert_eq!(archive.post(who, &format!("{path}/approve"), Value::Null).await.0, status, "{who}");
        }
        assert_eq!(archive.get("branch", "/exports").await.json()["exports"], json!([]));
        assert_eq!(archive.get("legal", "/exports").await.json()["exports"][0]["id"], asked["id"]);
        let (invest, legal) = (archive.log_in("invest").await, archive.log_in("legal").await);
        let (_, text) = archive.page(&legal, "/exports").await;
        assert!(text.contains(&format!("{path}/approve")), "{text}");
        let (_, text) = archive.page(&invest, "/exports").await;
        assert!(!text.contains("/approve") && text.contains("waits for a second person"), "{text}");
        let (status, _) = archive.post("legal", &format!("{path}/approve"), Value::Null).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_eq!(
            archive.post("second", &format!("{path}/reject"), Value::Null).await.0,
            StatusCode::CONFLICT
        );
        archive.make_exports().await;
        let ready = archive.get("invest", &path).await.json();
        assert_eq!((&ready["state"], &ready["decided"]["by"]), (&json!("ready"), &json!("legal")));
        let (_, text) = archive.page(&invest, "/exports").await;
        assert!(text.contains(&format!("/api/v1{path}/package")), "{text}");

        let asked = ask(&archive, "invest", &body).await.json();
        let path = format!("/exports/{}", asked["id"].as_str().unwrap());
        archive.post("second", &format!("{path}/reject"), Value::Null).await;
        archive.make_exports().await;
        assert_eq!(archive.get("invest", &path).await.json()["state"], "rejected");
        assert_eq!(archive.get("invest", &format!("{path}/package")).await.status, StatusCode::CONFLICT);
    });
}
