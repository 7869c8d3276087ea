//! The store for a log: always available.
//!
//! This process's memory mirrors every answer of the table. While the table is slow, throttled, missing or denied, decisions use the
//! mirror, so that alerts are posted as if there were no table. An item written meanwhile is marked as newer than the table. It is
//! used when the table answers again, unless another replica has recorded a later event.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{Item, Lease, Store, StoreError, memory::Memory};
use crate::incident::{Incident, Key};

/// How long an alert waits for the table at most.
pub const STORE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the table is not asked after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// A store and its mirror.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    /// The store itself, if it is in memory.
    mirror: Arc<Memory>,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// The table is not asked before this instant.
    until: Instant,
}

/// A loaded item.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The item.
    pub item: Item,
    /// Whether the item is from the store. Otherwise it is from the mirror, because the table did not answer.
    from_store: bool,
}

/// Another log has changed the item since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

impl Ledger {
    /// A ledger on this store, which it assumes to be available.
    pub fn new(store: Store) -> Self {
        let mirror = match &store {
            Store::Memory(memory) => Arc::clone(memory),
            Store::DynamoDb(_) => Arc::default(),
        };
        Self { store, mirror, outage: Mutex::new(None) }
    }

    /// The stored item or, if the table does not answer by `deadline`, the item that this process knows.
    pub async fn load(&self, key: &Key, deadline: Instant) -> Loaded {
        let answer = self.ask(deadline, self.store.load(key)).await;
        if let Some(Err(error)) = &answer {
            warn!(%error, ?key, "this program cannot read an item in the incidents table; delete the item");
        }
        let Some(Ok(mut item)) = answer else {
            // Other replicas' leases count only while the table answers.
            let item = Item { lease: None, ..self.mirror.load(key).0 };
            return Loaded { item, from_store: false };
        };
        if self.has_table() {
            let seen = |item: &Item| item.incident.as_ref().map(|incident| incident.seen);
            match self.mirror.load(key) {
                (kept, true) if seen(&kept) >= seen(&item) => item.incident = kept.incident,
                _ => self.mirror.put(key, item.clone(), false),
            }
        }
        Loaded { item, from_store: true }
    }

    /// Writes the item if it has not changed since it was loaded, and updates `loaded`. If the table does not accept it by
    /// `deadline`, this process keeps it.
    ///
    /// # Errors
    /// When the item was changed meanwhile.
    pub async fn save(&self, key: &Key, loaded: &mut Loaded, deadline: Instant) -> Result<(), Conflict> {
        let saved = match loaded.from_store {
            true => self.ask(deadline, self.store.save(key, &loaded.item)).await,
            false => None,
        };
        match saved {
            Some(Ok(version)) => loaded.item.version = version,
            Some(Err(_)) => return Err(Conflict),
            None => {
                loaded.item.version += 1;
                loaded.from_store = false;
            }
        }
        if self.has_table() {
            self.mirror.put(key, loaded.item.clone(), !loaded.from_store);
        }
        Ok(())
    }

    /// Extends a lease, if the table answers and this log holds the lease.
    pub async fn extend(&self, key: &Key, lease: &Lease, deadline: Instant) {
        // If another log holds it now, that log makes the report.
        let _ = self.ask(deadline, self.store.extend(key, lease)).await;
    }

    /// The time of the latest noted recovery.
    pub async fn last_recovery(&self, key: &Key, deadline: Instant) -> Option<OffsetDateTime> {
        let stored = match self.ask(deadline, self.store.last_recovery(key)).await {
            Some(Ok(stored)) => stored,
            _ => None,
        };
        stored.max(self.mirror.last_recovery(key))
    }

    /// Notes a recovery.
    pub async fn note_recovery(&self, key: &Key, time: OffsetDateTime, deadline: Instant) {
        if self.has_table() {
            self.mirror.note_recovery(key, time);
        }
        // If the table does not accept it, this process still has it.
        let _ = self.ask(deadline, self.store.note_recovery(key, time)).await;
    }

    /// The incident that this process knows, without asking the table.
    pub fn known(&self, key: &Key) -> Option<Arc<Incident>> {
        self.mirror.load(key).0.incident
    }

    /// The number of open incidents that this process knows, by the channel's name.
    pub fn open_by_channel(&self, now: OffsetDateTime) -> HashMap<String, usize> {
        self.mirror.open_by_channel(now)
    }

    fn has_table(&self) -> bool {
        matches!(self.store, Store::DynamoDb(_))
    }

    /// The table's answer, which may be a conflict. `None` if the table does not answer, or has recently failed to answer.
    async fn ask<T>(
        &self,
        deadline: Instant,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<Result<T, StoreError>> {
        if self.outage().as_ref().is_some_and(|outage| Instant::now() < outage.until) {
            return None;
        }
        let what = match timeout_at(deadline, request).await {
            Ok(Err(StoreError::Unavailable(what))) => what,
            Ok(answer) => {
                if let Some(outage) = self.outage().take() {
                    info!(seconds = outage.since.elapsed().as_secs(), "the incidents table answers again");
                }
                return Some(answer);
            }
            Err(_) => "no answer in time".to_owned(),
        };
        let now = Instant::now();
        let mut outage = self.outage();
        match outage.as_mut() {
            Some(outage) => outage.until = now + PAUSE,
            None => {
                *outage = Some(Outage { since: now, until: now + PAUSE });
                warn!(
                    error = what,
                    "the incidents table does not answer; alerts are posted from the incidents that this process knows"
                );
            }
        }
        None
    }

    fn outage(&self) -> parking_lot::MutexGuard<'_, Option<Outage>> {
        self.outage.lock()
    }
}
