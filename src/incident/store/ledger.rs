//! The store as a log sees it: always there.
//!
//! Every answer of the table is mirrored in this process's memory. While the table is slow, throttled, gone or forbidden, decisions
//! rest on that mirror, so that alerts go out as if there were no table. What is written meanwhile is marked as ahead of the table
//! and counts, once the table answers again, unless another replica has recorded a later event.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{Item, Lease, Store, StoreError, memory::Memory};
use crate::incident::{Incident, Key};

/// The longest that an alert waits for the table.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// After a failure the table is not asked for so long.
const PAUSE: Duration = Duration::from_secs(5);

/// A store and its mirror.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    /// The store itself, if it is memory.
    mirror: Arc<Memory>,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    /// The table is not asked before.
    until: Instant,
}

/// An item, and from where.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The item.
    pub item: Item,
    /// Else from the mirror, in place of a table that did not answer.
    from_store: bool,
}

/// An item was changed by another since it was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

impl Ledger {
    /// A ledger that takes the store to be there.
    pub fn new(store: Store) -> Self {
        let mirror = match &store {
            Store::Memory(memory) => Arc::clone(memory),
            Store::DynamoDb(_) => Arc::default(),
        };
        Self { store, mirror, outage: Mutex::new(None) }
    }

    /// What is stored, or, if the table does not say it by `deadline`, what this process knows.
    pub async fn load(&self, key: &Key, deadline: Instant) -> Loaded {
        let answer = self.ask(deadline, self.store.load(key)).await;
        if let Some(Err(error)) = &answer {
            warn!(%error, ?key, "an item in the table of incidents is not this program's; delete it");
        }
        let Some(Ok(mut item)) = answer else {
            // Leases of other replicas count only where these can be asked.
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

    /// Writes the item if it has not changed since it was loaded, and lets `loaded` be as it is now. What the table does not take
    /// by `deadline` is kept by this process.
    ///
    /// # Errors
    /// When it was changed meanwhile.
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

    /// Lets a lease end later, if the table is there and this holds it.
    pub async fn extend(&self, key: &Key, lease: &Lease, deadline: Instant) {
        // Whoever has it now does what it was for.
        let _ = self.ask(deadline, self.store.extend(key, lease)).await;
    }

    /// The time of the latest recovery noted.
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
        // If the table does not have it, this process does.
        let _ = self.ask(deadline, self.store.note_recovery(key, time)).await;
    }

    /// The incident as this process knows it, without asking the table.
    pub fn known(&self, key: &Key) -> Option<Arc<Incident>> {
        self.mirror.load(key).0.incident
    }

    /// How many open incidents this process knows, by the channel's name.
    pub fn open_by_channel(&self, now: OffsetDateTime) -> HashMap<String, usize> {
        self.mirror.open_by_channel(now)
    }

    fn has_table(&self) -> bool {
        matches!(self.store, Store::DynamoDb(_))
    }

    /// The answer, which may be a conflict; none if the table does not answer, or did not a moment ago.
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
                    info!(seconds = outage.since.elapsed().as_secs(), "the table of incidents answers again");
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
                    "the table of incidents does not answer; alerts go out by what this process knows of incidents"
                );
            }
        }
        None
    }

    fn outage(&self) -> std::sync::MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
