//! The thread around the writer. Owns nothing but the two channels.

use super::fs::Fs;
use super::writer::Writer;
use crate::jobs::{Done, Job};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The agent's end of the storage thread.
#[derive(Debug)]
pub struct Handle {
    /// Jobs; full means that the disk is stalled.
    pub jobs: Sender<Job>,
    /// Answers, one for each job.
    pub done: Receiver<Done>,
    /// While set, every answer wakes the loop, not only an urgent one. Who sets it has to look for answers
    /// once more before waiting.
    pub wake_always: Arc<AtomicBool>,
}

/// Starts the thread. At most `capacity` jobs wait; `wake` is called after an urgent answer.
///
/// The thread ends when the sender of jobs is dropped.
///
/// # Errors
/// If the system refuses a thread.
pub fn spawn<F>(
    mut writer: Writer<F>,
    capacity: usize,
    wake: impl Fn() + Send + 'static,
) -> io::Result<Handle>
where
    F: Fs + Send + 'static,
    F::File: Send,
{
    let (jobs, job_queue) = bounded::<Job>(capacity);
    // One answer a job, and one job in hand: sending an answer never waits.
    let (answers, done) = bounded(capacity + 1);
    let wake_always = Arc::new(AtomicBool::new(false));
    let always = Arc::clone(&wake_always);
    std::thread::Builder::new().name("storage".into()).stack_size(128 * 1024).spawn(move || {
        for job in job_queue {
            let answer = writer.handle(job);
            let urgent = answer.is_urgent();
            if answers.send(answer).is_err() {
                break;
            }
            if urgent || always.load(Ordering::SeqCst) {
                wake();
            }
        }
    })?;
    Ok(Handle { jobs, done, wake_always })
}
