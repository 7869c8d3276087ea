//! Stores incidents: in this process's memory, or in a DynamoDB table that replicas share.
//!
//! There is one item for each incident, and one for each service that recovered while no incident was open. An item is written only
//! if it has not changed since it was read ([`Item::version`]). So if two replicas read the same item, one writes it and the other
//! reads again.

pub mod dynamodb;
pub mod ledger;
pub mod memory;

use std::sync::Arc;

use time::OffsetDateTime;

use self::{dynamodb::DynamoDb, memory::Memory};
use super::{FORGOTTEN_AFTER, Id, Incident, Key};

/// A store. The futures of requests to the table are boxed: they take about ten KB, which each message in flight would otherwise take
/// even without a table.
#[derive(Debug)]
pub enum Store {
    /// This process's memory. Shared in tests, in which several logs act as replicas.
    Memory(Arc<Memory>),
    /// A table.
    DynamoDb(DynamoDb),
}

/// The item stored under an incident's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// 0 if nothing is stored; each write adds one.
    pub version: u64,
    /// The lease of the log that is reporting it.
    pub lease: Option<Lease>,
    /// The incident; `None` before Slack accepted its first message. Shared, because it is read for each alert and takes a few KB.
    pub incident: Option<Arc<Incident>>,
}

/// The right to report an incident, for a short time. It is advisory: if it expires too soon, the worst result is a second message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The log that holds it.
    pub holder: Id,
    /// When it expires, by the holder's clock.
    pub until: OffsetDateTime,
    /// Whether the recovery is being reported.
    pub recovers: bool,
}

/// Why an item was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another replica wrote it after it was read.
    #[error("another replica changed it meanwhile")]
    Conflict,
    /// The table did not answer in time, or refused the request.
    #[error("{0}")]
    Unavailable(String),
    /// The item has an unknown form: another program or a later version wrote it.
    #[error("this program did not write the attribute `{0}` of the item")]
    Foreign(String),
}

impl Item {
    /// When it may be deleted, because nothing in it is needed any more.
    fn expires(&self) -> Option<OffsetDateTime> {
        let forgotten = self.incident.as_ref().map(|incident| incident.seen + FORGOTTEN_AFTER);
        forgotten.max(self.lease.map(|lease| lease.until))
    }
}

impl Store {
    /// Reads the stored item; the default if there is none.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn load(&self, key: &Key) -> Result<Item, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.load(key).0),
            Self::DynamoDb(table) => Box::pin(table.load(key)).await,
        }
    }

    /// Writes `item` if the stored item has the same version, and returns the new version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the stored item has another version; otherwise when the table cannot be written.
    pub async fn save(&self, key: &Key, item: &Item) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => memory.save(key, item),
            Self::DynamoDb(table) => Box::pin(table.save(key, item)).await,
        }
    }

    /// Extends the lease of this holder.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another log holds it; otherwise when the table cannot be written.
    pub async fn extend(&self, key: &Key, lease: &Lease) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.extend(key, lease),
            Self::DynamoDb(table) => Box::pin(table.extend(key, lease)).await,
        }
    }

    /// The time of the latest noted recovery of the key's subject, for all channels.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn last_recovery(&self, key: &Key) -> Result<Option<OffsetDateTime>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.last_recovery(key)),
            Self::DynamoDb(table) => Box::pin(table.last_recovery(key)).await,
        }
    }

    /// Notes a recovery of the key's subject, if it is later than the noted one.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn note_recovery(&self, key: &Key, time: OffsetDateTime) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.note_recovery(key, time);
                Ok(())
            }
            Self::DynamoDb(table) => Box::pin(table.note_recovery(key, time)).await,
        }
    }
}
