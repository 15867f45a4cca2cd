//! Waves and decoder states of new recordings, made beside the intake so that they do not delay it.
//!
//! Owns: the queue. A wave that has no place in it is made when it is first asked for.

use crate::access::Condition;
use crate::catalogue::Catalogue;
use crate::catalogue::model::Taken;
use crate::id::Id;
use crate::media::derived::Store;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Recordings that wait for their wave.
const MAX_WAITING: usize = 10_000;
/// Recordings whose waves are made one behind the other, without going back to the catalogue.
const MAX_TOGETHER: usize = 64;

/// The queue for wanted waves.
#[derive(Clone, Debug)]
pub(crate) struct Waves(Sender<Id>);

impl Waves {
    /// The two ends of a queue.
    pub(crate) fn queue() -> (Self, Receiver<Id>) {
        let (sender, receiver) = channel(MAX_WAITING);
        (Self(sender), receiver)
    }

    /// Wants the waves of files that were taken in.
    pub(crate) fn want(&self, taken: &[Taken]) {
        for taken in taken {
            if let Taken::Added { recording } | Taken::Updated { recording } = taken {
                let _ = self.0.try_send(*recording);
            }
        }
    }
}

/// Makes waves until nobody wants any more.
pub(crate) async fn make(catalogue: Arc<dyn Catalogue>, store: Store, mut wanted: Receiver<Id>) {
    let mut together = Vec::new();
    while wanted.recv_many(&mut together, MAX_TOGETHER).await > 0 {
        let mut all = Vec::with_capacity(together.len());
        for recording in together.drain(..) {
            match catalogue.media(recording, &Condition::All).await {
                Ok(media) => all.extend(media),
                Err(error) => log::warn!("waves: {error}"),
            }
        }
        let store = store.clone();
        let made = tokio::task::spawn_blocking(move || {
            for media in &all {
                match store.make(media) {
                    // An encrypted one has none.
                    Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                        log::info!("waves: none of recording {} yet: {error}", media.id);
                    }
                    _ => {}
                }
            }
        });
        if let Err(error) = made.await {
            log::error!("waves: {error}");
        }
    }
}
