//! The storage thread of the server: jobs of all recordings, and a checkpoint from time to time.

use crate::checkpoint_writer::CheckpointWriter;
use crate::journal::Journal;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::access::Access;
use store::fs::SystemFs;
use store::jobs::{Done, Job};

/// A checkpoint that takes longer is worth a warning: until it is done, audio stays in memory.
const SLOW: Duration = Duration::from_secs(2);

/// The loop's end of the thread.
#[derive(Debug)]
pub struct Handle {
    /// Jobs; full means that the disk is stalled.
    pub jobs: Sender<Job>,
    /// Answers.
    pub done: Receiver<Done>,
}

/// Starts the thread. At most `capacity` jobs wait, and at most so many answers; `wake` is called after an
/// urgent answer. All is made durable each `checkpoint`, for those to read whom `access` lets. Finished files go into
/// `journal`, ids into the file `used_ids`. It ends when the sender of jobs is dropped.
///
/// # Errors
/// If the system refuses a thread.
pub fn spawn(
    capacity: usize,
    checkpoint: Duration,
    access: Access,
    journal: Arc<Mutex<Journal>>,
    used_ids: Option<File>,
    wake: impl Fn() + Send + 'static,
) -> io::Result<Handle> {
    let (jobs, job_queue) = bounded::<Job>(capacity);
    let (answers, done) = bounded(capacity + 1);
    let mut writer =
        CheckpointWriter::new(SystemFs { access }, os::clock::mono, checkpoint, journal, used_ids);
    std::thread::Builder::new().name("storage".into()).spawn(move || {
        let mut ready = Vec::new();
        loop {
            let wait = writer.poll_deadline().map(|deadline| deadline.since(os::clock::mono()));
            let job = match wait {
                Some(Duration::ZERO) => Err(RecvTimeoutError::Timeout),
                Some(wait) => job_queue.recv_timeout(wait),
                None => job_queue.recv().map_err(RecvTimeoutError::from),
            };
            match job {
                Ok(job) => ready.extend(writer.handle(job)),
                Err(RecvTimeoutError::Timeout) => {
                    let began = os::clock::mono();
                    writer.checkpoint(&mut ready);
                    let took = os::clock::mono().since(began);
                    if took > SLOW {
                        log::warn!("disk_slow checkpoint_ms={} closed={}", took.as_millis(), ready.len());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let urgent = ready.iter().any(Done::is_urgent);
            for answer in ready.drain(..) {
                let sent = answers.try_send(answer).or_else(|error| match error {
                    // A checkpoint has more answers than there is room: the loop, which never waits for
                    // this thread, makes some.
                    TrySendError::Full(answer) => {
                        wake();
                        answers.send(answer).map_err(|_| ())
                    }
                    TrySendError::Disconnected(_) => Err(()),
                });
                if sent.is_err() {
                    return;
                }
            }
            if urgent {
                wake();
            }
        }
    })?;
    Ok(Handle { jobs, done })
}
