//! Which ids recordings of this server have had, so that no two have the same.
//!
//! A phone chooses its `id`, and two may choose the same one, years apart. The first recording has it as it
//! is; another one gets a suffix. The used ids are a Bloom filter of fixed size: it may take a new id for a
//! used one, which costs a longer id, and never the other way round. Owns: the filter, its file in the
//! storage folder. Invariants: an id that was given out is in the file as soon as its sidecar is on the disk;
//! ids of days that a crash may have cut off are put in again by the next start, and those of all days if
//! there is no file.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::path::Path;
use store::fs::{Fs, append_all};
use store::sidecar_file::create_anew;

/// Name of the file in the storage folder.
pub const USED_IDS: &str = ".recordserver-ids";

/// Octets of the filter: after a million recordings one new id in 1,500 is taken for a used one, after ten
/// millions every fifth.
pub const FILTER_OCTETS: usize = 4 << 20;

/// Bits of an id.
const BITS_OF_ID: u64 = 3;

/// Random ends that are tried; when the filter is full, none is new, and the last one is as good as any.
const MAX_TRIES: u32 = 8;

/// The octets of the filter that an id is in, and its bit in each.
fn places(id: &str) -> impl Iterator<Item = (usize, u8)> {
    // FNV-1a, then the finaliser of SplitMix64: the file outlives this program, so must the hash.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let hash = hash ^ (hash >> 31);
    let step = (hash >> 32) | 1;
    (0..BITS_OF_ID).map(move |index| {
        let bit = hash.wrapping_add(index.wrapping_mul(step)) % (FILTER_OCTETS as u64 * 8);
        (usize::try_from(bit / 8).unwrap_or_default(), 1 << (bit % 8))
    })
}

/// The filter.
pub struct UsedIds {
    filter: Vec<u8>,
    /// The file that it came from has all of it.
    is_saved: bool,
    random: RandomState,
    drawn: u64,
}

impl fmt::Debug for UsedIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsedIds").field("drawn", &self.drawn).finish_non_exhaustive()
    }
}

impl Default for UsedIds {
    /// No id was used.
    fn default() -> Self {
        Self::of(vec![0; FILTER_OCTETS])
    }
}

impl UsedIds {
    fn of(filter: Vec<u8>) -> Self {
        Self { filter, is_saved: false, random: RandomState::new(), drawn: 0 }
    }

    /// The ids that the file in `storage` has; `None` if there is none, or none that can be used.
    #[must_use]
    pub fn load<F: Fs>(fs: &F, storage: &Path) -> Option<Self> {
        let filter = fs.read(&storage.join(USED_IDS), FILTER_OCTETS + 1).ok()?;
        (filter.len() == FILTER_OCTETS).then(|| Self { is_saved: true, ..Self::of(filter) })
    }

    /// Opens the file for [`mark`], written anew unless it has all ids: whole or not at all.
    ///
    /// # Errors
    /// As the system says; then there is no file, and every id counts as used from now on.
    pub fn save<F: Fs>(&mut self, fs: &F, storage: &Path) -> io::Result<F::File> {
        let path = storage.join(USED_IDS);
        if let Some(file) = self.is_saved.then(|| fs.open(&path).ok()).flatten() {
            return Ok(file);
        }
        let saved = self.try_save(fs, storage, &path);
        if saved.is_err() {
            // The next start must not use an incomplete file.
            let _ = fs.remove(&path);
            self.filter.fill(0xff);
        }
        saved
    }

    fn try_save<F: Fs>(&self, fs: &F, storage: &Path, path: &Path) -> io::Result<F::File> {
        let new = path.with_extension("new");
        let mut file = create_anew(fs, &new)?;
        append_all(fs, &mut file, &mut [IoSlice::new(&self.filter)], &mut 0)?;
        fs.sync_data(&file)?;
        fs.rename(&new, path)?;
        fs.sync_folder(storage)?;
        Ok(file)
    }

    /// Whether this id may have been used.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        places(id).all(|(octet, bit)| self.filter.get(octet).is_none_or(|found| found & bit != 0))
    }

    /// This id is used.
    pub fn add(&mut self, id: &str) {
        self.is_saved &= self.has(id);
        for (octet, bit) in places(id) {
            if let Some(found) = self.filter.get_mut(octet) {
                *found |= bit;
            }
        }
    }

    /// The id of a recording that a phone calls `id`: the same, or if that was used with something random
    /// behind it.
    pub fn claim(&mut self, id: &str) -> String {
        let mut claimed = id.to_owned();
        for _ in 0..MAX_TRIES {
            if !claimed.is_empty() && !self.has(&claimed) {
                break;
            }
            self.drawn = self.drawn.wrapping_add(1);
            let end = self.random.hash_one(self.drawn);
            claimed = if id.is_empty() { format!("{end:016x}") } else { format!("{id}-{end:016x}") };
        }
        self.add(&claimed);
        claimed
    }
}

/// Puts an id into the file of [`UsedIds::save`]. It becomes durable with a later sync.
///
/// # Errors
/// As the system says.
pub fn mark<F: Fs>(fs: &F, file: &F::File, id: &str) -> io::Result<()> {
    for (octet, bit) in places(id) {
        let mut found = [0];
        fs.read_at(file, &mut found, octet as u64)?;
        if found[0] & bit == 0 {
            fs.write_at(file, &[found[0] | bit], octet as u64)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;
    use store::fs::RealFs;

    #[test]
    fn the_first_has_the_phones_id_and_every_other_one_an_id_of_its_own() {
        let mut ids = UsedIds::default();
        let claimed: BTreeSet<String> = (0..1000).map(|_| ids.claim("1")).collect();
        assert_eq!(claimed.len(), 1000);
        assert!(claimed.contains("1") && claimed.iter().all(|id| id == "1" || id.starts_with("1-")));
        // One that a phone takes from another's recording is used, too.
        let taken = claimed.last().unwrap();
        assert_ne!(ids.claim(taken), *taken);
        assert_eq!((ids.claim("2"), ids.claim("").len()), ("2".to_owned(), 16));
    }

    #[test]
    fn a_used_id_is_never_taken_for_a_new_one_and_rarely_the_other_way_round() {
        let mut ids = UsedIds::default();
        (0..100_000).for_each(|number| ids.add(&format!("{number:x}")));
        assert!((0..100_000).all(|number| ids.has(&format!("{number:x}"))));
        let wrong = (0..100_000).filter(|number| ids.has(&format!("new{number}"))).count();
        assert!(wrong < 10, "{wrong} of 100,000");
    }

    #[test]
    fn a_full_filter_gives_ids_that_differ_all_the_same() {
        let mut ids = UsedIds::of(vec![0xff; FILTER_OCTETS]);
        let claimed: BTreeSet<String> = (0..1000).map(|_| ids.claim("a")).collect();
        assert_eq!(claimed.len(), 1000);
        assert!(claimed.iter().all(|id| id.starts_with("a-")));
    }

    #[test]
    fn saved_and_marked_ids_are_known_after_the_next_load() {
        let storage = tempfile::tempdir().unwrap();
        assert!(UsedIds::load(&RealFs, storage.path()).is_none());
        let mut ids = UsedIds::default();
        ids.add("saved");
        let file = ids.save(&RealFs, storage.path()).unwrap();
        mark(&RealFs, &file, "marked").unwrap();
        let ids = UsedIds::load(&RealFs, storage.path()).unwrap();
        assert!(ids.has("saved") && ids.has("marked") && !ids.has("new"));
        assert_eq!(std::fs::read_dir(storage.path()).unwrap().count(), 1);
        std::fs::write(storage.path().join(USED_IDS), "cut off").unwrap();
        assert!(UsedIds::load(&RealFs, storage.path()).is_none());
    }

    #[test]
    fn the_places_of_an_id_stay_where_they_are_in_files_of_former_versions() {
        let found: Vec<(usize, u8)> = places("8e140acfa395ec38d4f28f7ed65efca6").collect();
        assert_eq!(found, [(3_549_876, 4), (3_732_940, 32), (3_916_005, 1)]);
    }

    #[test]
    fn a_file_that_can_not_be_made_makes_every_id_count_as_used_and_no_link_is_followed() {
        let storage = tempfile::tempdir().unwrap();
        let (victim, path) = (storage.path().join("victim"), storage.path().join(USED_IDS));
        std::fs::write(&victim, vec![0; FILTER_OCTETS]).unwrap();
        symlink(&victim, &path).unwrap();
        assert!(UsedIds::load(&RealFs, storage.path()).is_none());
        UsedIds::default().save(&RealFs, storage.path()).unwrap();
        assert!(path.symlink_metadata().unwrap().is_file(), "in place of the link");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("x")).unwrap();
        let mut ids = UsedIds::default();
        assert!(ids.save(&RealFs, storage.path()).is_err());
        assert_ne!(ids.claim("new"), "new");
    }
}
