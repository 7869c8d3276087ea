//! Where incidents are kept: in this process's memory, or in a DynamoDB table that replicas share.
//!
//! One item for each incident, and one for each service that recovered while no incident was open. An item is written only if it is still as it was read ([`Item::version`]), so
//! of two replicas that read the same, one writes and the other reads again.

pub mod dynamodb;
pub mod ledger;
pub mod memory;

use std::sync::Arc;

use time::OffsetDateTime;

use self::{dynamodb::DynamoDb, memory::Memory};
use super::{FORGOTTEN_AFTER, Id, Incident, Key};

/// A store. The futures of requests to the table are in boxes: they take some ten KB, which each message in flight would take also where
/// there is no table.
#[derive(Debug)]
pub enum Store {
    /// This process's memory; shared in tests, where several logs stand for replicas.
    Memory(Arc<Memory>),
    /// A table.
    DynamoDb(DynamoDb),
}

/// What is stored under an incident's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// 0 if there is nothing, then one more with each write.
    pub version: u64,
    /// Who is about to report it.
    pub lease: Option<Lease>,
    /// The incident; none before Slack accepted its first message. Shared, because it is read for each alert and is some KB.
    pub incident: Option<Arc<Incident>>,
}

/// The right to report an incident, for a short time. It is advice, not safety: when it expires too soon, the worst is a
/// second message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The log that has it.
    pub holder: Id,
    /// When it expires, by the holder's clock.
    pub until: OffsetDateTime,
    /// What is being reported is the recovery.
    pub recovers: bool,
}

/// Why an item was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another wrote it since it was read.
    #[error("another replica changed it meanwhile")]
    Conflict,
    /// The table was not reached in time, or refused.
    #[error("{0}")]
    Unavailable(String),
    /// The item has another form: somebody else, or a later version, wrote it.
    #[error("the attribute `{0}` of the item is not this program's")]
    Foreign(String),
}

impl Item {
    /// From when on it may be deleted: when nothing in it counts any more.
    fn expires(&self) -> Option<OffsetDateTime> {
        let forgotten = self.incident.as_ref().map(|incident| incident.seen + FORGOTTEN_AFTER);
        forgotten.max(self.lease.map(|lease| lease.until))
    }
}

impl Store {
    /// What is stored; the default if there is nothing.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn load(&self, key: &Key) -> Result<Item, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.load(key).0),
            Self::DynamoDb(table) => Box::pin(table.load(key)).await,
        }
    }

    /// Writes `item` if what is stored has its version, and returns the version that it has now.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if what is stored has another version; otherwise when the table cannot be written.
    pub async fn save(&self, key: &Key, item: &Item) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => memory.save(key, item),
            Self::DynamoDb(table) => Box::pin(table.save(key, item)).await,
        }
    }

    /// Lets the lease that this holder has end later.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another has it; otherwise when the table cannot be written.
    pub async fn extend(&self, key: &Key, lease: &Lease) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.extend(key, lease),
            Self::DynamoDb(table) => Box::pin(table.extend(key, lease)).await,
        }
    }

    /// The time of the latest recovery noted, of what the key is about, for whatever channel.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn last_recovery(&self, key: &Key) -> Result<Option<OffsetDateTime>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.last_recovery(key)),
            Self::DynamoDb(table) => Box::pin(table.last_recovery(key)).await,
        }
    }

    /// Notes a recovery of what the key is about, if it is later than the one noted before.
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
