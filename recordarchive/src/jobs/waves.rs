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
    while let Some(recording) = wanted.recv().await {
        let media = match catalogue.media(recording, &Condition::All).await {
            Ok(Some(media)) => media,
            Ok(None) => continue,
            Err(error) => {
                log::warn!("waves: {error}");
                continue;
            }
        };
        let store = store.clone();
        let made = tokio::task::spawn_blocking(move || store.make(&media).map(drop)).await;
        match made.unwrap_or_else(|error| Err(io::Error::other(error))) {
            // An encrypted one has none.
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                log::info!("waves: none of recording {recording} yet: {error}");
            }
            _ => {}
        }
    }
}
