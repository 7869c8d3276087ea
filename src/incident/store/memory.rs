//! Incidents in this process's memory: the store if there is no table, and the mirror that decisions use while the table does not
//! answer.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::{Item, Lease, StoreError};
use crate::incident::Key;

/// How many incidents are kept, and how many recoveries. The least recently used are removed first. An incident takes up to 3 KB.
const MAX: usize = 10_000;

/// Incidents and recoveries.
#[derive(Debug)]
pub struct Memory(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    items: Lru<Key, (Item, Ahead)>,
    recoveries: Lru<String, OffsetDateTime>,
}

/// Whether the item was written while the table did not answer. Then the table does not have it.
type Ahead = bool;

impl Default for Memory {
    fn default() -> Self {
        Self(Mutex::new(Kept { items: Lru::new(MAX), recoveries: Lru::new(MAX) }))
    }
}

impl Memory {
    /// The kept item, and whether it is newer than the table's; the default if there is none.
    pub fn load(&self, key: &Key) -> (Item, bool) {
        self.0.lock().items.get(key).cloned().unwrap_or_default()
    }

    /// As [`super::Store::save`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the kept item has another version.
    pub fn save(&self, key: &Key, item: &Item) -> Result<u64, StoreError> {
        let mut kept = self.0.lock();
        let version = kept.items.get(key).map_or(0, |(item, _)| item.version);
        if version != item.version {
            return Err(StoreError::Conflict);
        }
        kept.items.put(key, (Item { version: version + 1, ..item.clone() }, false));
        Ok(version + 1)
    }

    /// Keeps the item and replaces any other.
    pub fn put(&self, key: &Key, item: Item, ahead: bool) {
        self.0.lock().items.put(key, (item, ahead));
    }

    /// As [`super::Store::extend`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another holds the lease.
    pub fn extend(&self, key: &Key, lease: &Lease) -> Result<(), StoreError> {
        let mut kept = self.0.lock();
        let (mut item, ahead) = kept.items.get(key).cloned().ok_or(StoreError::Conflict)?;
        if item.lease.is_none_or(|held| held.holder != lease.holder) {
            return Err(StoreError::Conflict);
        }
        item.lease = Some(*lease);
        kept.items.put(key, (item, ahead));
        Ok(())
    }

    /// As [`super::Store::last_recovery`].
    pub fn last_recovery(&self, key: &Key) -> Option<OffsetDateTime> {
        self.0.lock().recoveries.get(&key.recovery()).copied()
    }

    /// As [`super::Store::note_recovery`].
    pub fn note_recovery(&self, key: &Key, time: OffsetDateTime) {
        let mut kept = self.0.lock();
        let recovery = key.recovery();
        let latest = kept.recoveries.get(&recovery).map_or(time, |before| time.max(*before));
        kept.recoveries.put(&recovery, latest);
    }

    /// The number of kept open incidents, for each channel that has any.
    pub fn open_by_channel(&self, now: OffsetDateTime) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for (key, (item, _)) in self.0.lock().items.iter() {
            if item.incident.as_ref().is_some_and(|incident| incident.is_open() && !incident.is_forgotten(now)) {
                *counts.entry(key.channel().to_owned()).or_default() += 1;
            }
        }
        counts
    }
}

/// A map that removes the least recently used entry.
#[derive(Debug)]
struct Lru<K, V> {
    max: usize,
    values: HashMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    fn new(max: usize) -> Self {
        Self { max, values: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.values.get_mut(key)?;
        if let Some(key) = self.by_use.remove(used) {
            self.uses += 1;
            *used = self.uses;
            self.by_use.insert(self.uses, key);
        }
        Some(value)
    }

    fn put(&mut self, key: &K, value: V) {
        if let Some(known) = self.get(key) {
            *known = value;
            return;
        }
        self.uses += 1;
        self.values.insert(key.clone(), (self.uses, value));
        self.by_use.insert(self.uses, key.clone());
        if self.values.len() > self.max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.values.remove(&oldest);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.values.iter().map(|(key, (_, value))| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Subject;

    fn key(name: &str) -> Key {
        Key::new("ops", "123456789012", "eu-west-1", "prod", Subject::Service, name)
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = Lru::new(3);
        for name in ["a", "b", "c"] {
            lru.put(&name, name.to_uppercase());
        }
        assert_eq!(lru.get(&"a").cloned(), Some("A".to_owned()));
        lru.put(&"b", "again".to_owned());
        lru.put(&"d", "D".to_owned());
        assert_eq!(lru.get(&"c"), None);
        let mut left: Vec<_> = lru.iter().map(|(key, _)| *key).collect();
        left.sort_unstable();
        assert_eq!(left, ["a", "b", "d"]);
        assert_eq!(lru.by_use.len(), 3);
    }

    #[test]
    fn ten_thousand_incidents_are_kept() {
        let memory = Memory::default();
        for number in 0..MAX + 5 {
            memory.save(&key(&number.to_string()), &Item::default()).unwrap();
        }
        let versions = |number: usize| memory.load(&key(&number.to_string())).0.version;
        assert_eq!([versions(4), versions(5), versions(MAX + 4)], [0, 1, 1]);
    }

    #[test]
    fn an_item_that_changed_meanwhile_is_not_overwritten() {
        let memory = Memory::default();
        assert_eq!(memory.save(&key("a"), &Item::default()), Ok(1));
        assert_eq!(memory.save(&key("a"), &Item::default()), Err(StoreError::Conflict));
        let item = memory.load(&key("a")).0;
        assert_eq!(memory.save(&key("a"), &item), Ok(2));
        assert_eq!(memory.save(&key("b"), &item), Err(StoreError::Conflict));
    }

    #[test]
    fn the_latest_recovery_counts_in_every_channel() {
        let memory = Memory::default();
        let at = |second| OffsetDateTime::from_unix_timestamp(second).unwrap();
        for second in [5, 9, 7] {
            memory.note_recovery(&key("a"), at(second));
        }
        let elsewhere = Key::new("other", "123456789012", "eu-west-1", "prod", Subject::Service, "a");
        assert_eq!(memory.last_recovery(&elsewhere), Some(at(9)));
        assert_eq!(memory.last_recovery(&key("b")), None);
    }
}
