//! The thread around the writer. Owns nothing but the two channels.

use super::disks::Disks;
use super::fs::Fs;
use super::writer::Writer;
use crate::jobs::{Done, Job};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// The agent's end of the storage thread.
#[derive(Debug)]
pub struct Handle {
    jobs: Sender<Job>,
    /// Dropped after `jobs`, so that the thread sees the end of them.
    sleeper: Sleeper,
    /// Answers, one for each job.
    pub done: Receiver<Done>,
    /// While set, every answer wakes the loop, not only an urgent one. Who sets it has to look for answers
    /// once more before waiting.
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

/// Starts the thread. At most `capacity` jobs wait; `wake` is called after an urgent answer.
///
/// The thread ends when the handle is dropped.
///
/// # Errors
/// If the system refuses a thread.
pub fn spawn<F>(
    mut writer: Writer<F>,
    capacity: usize,
    wake: impl Fn() + Send + 'static,
) -> io::Result<Handle>
where
    F: Fs + Disks + Send + 'static,
    F::File: Send,
{
    let (jobs, job_queue) = bounded::<Job>(capacity);
    // One answer a job, and one job in hand: sending an answer never waits.
    let (answers, done) = bounded(capacity + 1);
    let wake_always = Arc::new(AtomicBool::new(false));
    let always = Arc::clone(&wake_always);
    let builder = std::thread::Builder::new().name("storage".into()).stack_size(128 * 1024);
    let thread = builder.spawn(move || {
        serve(
            &job_queue,
            &answers,
            |job| writer.handle(job),
            |urgent| {
                if urgent || always.load(Ordering::SeqCst) {
                    wake();
                }
            },
        );
    })?;
    Ok(Handle { jobs, sleeper: Sleeper(thread.thread().clone()), done, wake_always })
}

/// Does jobs until the agent is gone; `answered` is told whether an answer is urgent.
fn serve(
    jobs: &Receiver<Job>,
    answers: &Sender<Done>,
    mut work: impl FnMut(Job) -> Done,
    mut answered: impl FnMut(bool),
) {
    loop {
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(TryRecvError::Empty) => {
                std::thread::park();
                continue;
            }
            Err(TryRecvError::Disconnected) => return,
        };
        let answer = work(job);
        let urgent = answer.is_urgent();
        if answers.send(answer).is_err() {
            return;
        }
        answered(urgent);
    }
}
