//! The thread around the writer. Owns nothing but the two channels.

use super::disks::Disks;
use super::fs::Fs;
use super::writer::{SyncPolicy, Writer};
use crate::jobs::{Done, Job};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// The loop's end of the storage thread.
#[derive(Debug)]
pub struct Handle {
    jobs: Sender<Job>,
    /// Dropped after `jobs`, so that the thread sees the end of them.
    sleeper: Sleeper,
    /// Answers, one for each job.
    pub done: Receiver<Done>,
    /// While set, every answer wakes the loop, not only an urgent one. The thread that sets it has to look
    /// for answers once more before waiting.
    pub wake_always: Arc<AtomicBool>,
}

impl Handle {
    /// Gives the thread a job.
    ///
    /// # Errors
    /// The job comes back: the disk is stalled and the queue full, or the thread is gone.
    #[expect(clippy::result_large_err, reason = "the job comes back as it is, without an allocation")]
    pub fn submit(&self, job: Job) -> Result<(), TrySendError<Job>> {
        self.jobs.try_send(job)?;
        self.sleeper.0.unpark();
        Ok(())
    }
}

/// The thread while it waits. It parks itself rather than in the channel, which would spin and yield before
/// it sleeps, each second, for nothing: the next job is most of a second away.
#[derive(Debug)]
struct Sleeper(Thread);

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// Starts the thread. At most `capacity` jobs wait; `wake` is called after an urgent answer, and when there
/// is no room for all answers of a checkpoint.
///
/// The thread ends when the handle is dropped.
///
/// # Errors
/// If the system refuses a thread.
pub fn spawn<F, P>(
    writer: Writer<F, P>,
    capacity: usize,
    wake: impl Fn() + Send + 'static,
) -> io::Result<Handle>
where
    F: Fs + Disks + Send + 'static,
    F::File: Send,
    P: SyncPolicy<F> + Send + 'static,
    P::Kept: Send,
{
    let (jobs, job_queue) = bounded::<Job>(capacity);
    // One answer a job, and one job in hand: sending the answer of a job never waits.
    let (answers, done) = bounded(capacity + 1);
    let wake_always = Arc::new(AtomicBool::new(false));
    let always = Arc::clone(&wake_always);
    let builder = std::thread::Builder::new().name("storage".into()).stack_size(128 * 1024);
    let thread = builder.spawn(move || serve(writer, &job_queue, &answers, wake, &always))?;
    Ok(Handle { jobs, sleeper: Sleeper(thread.thread().clone()), done, wake_always })
}

/// Does jobs, and checkpoints when they are due, until the loop is gone.
fn serve<F: Fs + Disks, P: SyncPolicy<F>>(
    mut writer: Writer<F, P>,
    jobs: &Receiver<Job>,
    answers: &Sender<Done>,
    wake: impl Fn(),
    always: &AtomicBool,
) {
    let mut ready = Vec::new();
    loop {
        let wait = writer.poll_deadline().map(|due| due.since(writer.now()));
        if wait == Some(Duration::ZERO) {
            writer.checkpoint(&mut ready);
        } else {
            match (jobs.try_recv(), wait) {
                (Ok(job), _) => ready.extend(writer.handle(job)),
                (Err(TryRecvError::Empty), None) => std::thread::park(),
                (Err(TryRecvError::Empty), Some(wait)) => std::thread::park_timeout(wait),
                (Err(TryRecvError::Disconnected), _) => return,
            }
        }
        if ready.is_empty() {
            continue;
        }
        let urgent = ready.iter().any(Done::is_urgent);
        for answer in ready.drain(..) {
            let sent = answers.try_send(answer).or_else(|error| match error {
                // A checkpoint has more answers than there is room: the loop, which never waits for this
                // thread, makes some.
                TrySendError::Full(answer) => {
                    wake();
                    answers.send(answer).map_err(drop)
                }
                TrySendError::Disconnected(_) => Err(()),
            });
            if sent.is_err() {
                return;
            }
        }
        if urgent || always.load(Ordering::SeqCst) {
            wake();
        }
    }
}

#[cfg(test)]
mod tests;
