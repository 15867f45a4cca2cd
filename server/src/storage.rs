//! The storage thread of the server: the library's writer, and a folder for each device.

use crossbeam_channel::bounded;
use phone_recorder::jobs::Job;
use phone_recorder::storage::fs::RealFs;
use phone_recorder::storage::thread::Handle;
use phone_recorder::storage::writer::Writer;
use std::io;
use std::sync::Arc;

/// Starts the thread. At most `capacity` jobs wait; `wake` is called after an urgent answer. It ends when
/// the sender of jobs is dropped.
///
/// # Errors
/// If the system refuses a thread.
pub fn spawn(capacity: usize, wake: impl Fn() + Send + 'static) -> io::Result<Handle> {
    let (jobs, job_queue) = bounded::<Job>(capacity);
    let (answers, done) = bounded(capacity + 1);
    let mut writer = Writer::new(RealFs, crate::clock::mono);
    std::thread::Builder::new().name("storage".into()).spawn(move || {
        for job in job_queue {
            if let Job::Open(open) = &job {
                // The writer makes one folder; ours has its device's folder above it. If that fails, the
                // writer's own attempt says why.
                if let Some(parent) = open.folder.path().parent() {
                    if parent != open.folder.root {
                        let _ = std::fs::create_dir(parent);
                    }
                }
            }
            let answer = writer.handle(job);
            let urgent = answer.is_urgent();
            if answers.send(answer).is_err() {
                break;
            }
            if urgent {
                wake();
            }
        }
    })?;
    Ok(Handle { jobs, done, wake_always: Arc::default() })
}
