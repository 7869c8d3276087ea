//! Incidents in a DynamoDB table: string key `pk`, time-to-live attribute `expires`.
//!
//! Each write is conditional, each read is consistent. No other module knows the AWS SDK's DynamoDB types. [`item`] names and
//! encodes the attributes.

mod item;

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    config::{StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, KeyType, ScalarAttributeType, TableDescription},
};
use time::OffsetDateTime;

use self::item::{EXPIRES, HOLDER, PK, RECOVERED, UNTIL, VERSION, number};
use super::{Item, Lease, StoreError};
use crate::{
    aws::{ErrorClass, error_text},
    incident::{FORGOTTEN_AFTER, Key},
    metrics,
};

/// A table.
#[derive(Debug, Clone)]
pub struct DynamoDb {
    client: Client,
    table: String,
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// DynamoDB does not answer, or refuses.
    #[error("{action} of the table {table:?} failed: {what}")]
    Request {
        /// The IAM action of the request: `dynamodb:GetItem`.
        action: &'static str,
        /// The table's name or ARN in the configuration.
        table: String,
        /// The kind of the failure.
        class: ErrorClass,
        /// A description of the error.
        what: String,
    },
    /// It has another primary key.
    #[error("the table {table:?} has the primary key {found}; it must be one string attribute, `pk` (HASH, S)")]
    Schema {
        /// The table's name or ARN in the configuration.
        table: String,
        /// The table's key.
        found: String,
    },
    /// The table did not return a written item.
    #[error("the table {table:?} did not return what was written")]
    NotReadBack {
        /// The table's name or ARN in the configuration.
        table: String,
    },
}

impl TableError {
    /// True if only a change of configuration or permissions helps. A retry at the start would hide the mistake.
    pub fn is_misconfiguration(&self) -> bool {
        match self {
            Self::Request { class, .. } => class.is_misconfiguration(),
            Self::Schema { .. } => true,
            Self::NotReadBack { .. } => false,
        }
    }
}

impl DynamoDb {
    /// A table by its name or ARN; no request is made.
    pub fn new(aws: &aws_config::SdkConfig, table: &str) -> Self {
        // An alert waits for the answer, and the ledger limits that time: a request that fails at once is retried once.
        let retry = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(20));
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_millis(500))
            .operation_timeout(Duration::from_secs(3))
            .build();
        let aws = aws
            .to_builder()
            .retry_config(retry)
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::new(&aws), table: table.to_owned() }
    }

    /// As [`super::Store::load`].
    ///
    /// # Errors
    /// Any failure of the request, and an item that cannot be decoded.
    pub async fn load(&self, key: &Key) -> Result<Item, StoreError> {
        let get = self.client.get_item().table_name(&self.table).key(PK, text(key.incident())).consistent_read(true);
        let counted = Counted::new("load");
        let answer = counted.end(get.send().await)?;
        answer.item.map_or_else(|| Ok(Item::default()), |attributes| item::decode(&attributes))
    }

    /// As [`super::Store::save`].
    ///
    /// # Errors
    /// As [`super::Store::save`].
    pub async fn save(&self, key: &Key, item: &Item) -> Result<u64, StoreError> {
        let version = item.version + 1;
        let put = self.client.put_item().table_name(&self.table);
        let put = put.set_item(Some(item::encode(key, item, version)));
        let put = match item.version {
            0 => put.condition_expression("attribute_not_exists(#key)").expression_attribute_names("#key", PK),
            before => put
                .condition_expression("#version = :before")
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(":before", number(before)),
        };
        let counted = Counted::new("save");
        counted.end(put.send().await)?;
        Ok(version)
    }

    /// As [`super::Store::extend`]. It does not change the version, so a log that folds meanwhile need not read again.
    ///
    /// # Errors
    /// As [`super::Store::extend`].
    pub async fn extend(&self, key: &Key, lease: &Lease) -> Result<(), StoreError> {
        let update = self.client.update_item().table_name(&self.table).key(PK, text(key.incident()));
        let update = update
            .update_expression("SET #until = :until")
            .condition_expression("#holder = :holder")
            .expression_attribute_names("#until", UNTIL)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_values(":until", item::time(lease.until))
            .expression_attribute_values(":holder", item::id(lease.holder));
        let counted = Counted::new("save");
        counted.end(update.send().await)?;
        Ok(())
    }

    /// As [`super::Store::last_recovery`].
    ///
    /// # Errors
    /// As [`super::Store::last_recovery`].
    pub async fn last_recovery(&self, key: &Key) -> Result<Option<OffsetDateTime>, StoreError> {
        let get = self.client.get_item().table_name(&self.table).key(PK, text(key.recovery())).consistent_read(true);
        let counted = Counted::new("load");
        let answer = counted.end(get.send().await)?;
        answer.item.map_or(Ok(None), |attributes| item::decode_time(&attributes, RECOVERED))
    }

    /// As [`super::Store::note_recovery`].
    ///
    /// # Errors
    /// As [`super::Store::note_recovery`].
    pub async fn note_recovery(&self, key: &Key, time: OffsetDateTime) -> Result<(), StoreError> {
        let update = self.client.update_item().table_name(&self.table).key(PK, text(key.recovery()));
        let update = update
            .update_expression("SET #recovered = :time, #expires = :expires")
            .condition_expression("attribute_not_exists(#recovered) OR #recovered < :time")
            .expression_attribute_names("#recovered", RECOVERED)
            .expression_attribute_names("#expires", EXPIRES)
            .expression_attribute_values(":time", item::time(time))
            .expression_attribute_values(":expires", item::expires(time + FORGOTTEN_AFTER));
        let counted = Counted::new("save");
        match counted.end(update.send().await) {
            // A later recovery is already noted.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks that the table exists and has the primary key that is needed.
    ///
    /// # Errors
    /// The table's error, or why DynamoDB could not be asked (`dynamodb:DescribeTable`).
    pub async fn check_schema(&self) -> Result<(), TableError> {
        let described = self.client.describe_table().table_name(&self.table).send().await;
        let table = described.map_err(|error| self.failed("dynamodb:DescribeTable", &error))?.table;
        let found = table.as_ref().map(primary_key).unwrap_or_default();
        if found == "pk (HASH, S)" { Ok(()) } else { Err(TableError::Schema { table: self.table.clone(), found }) }
    }

    /// Writes a test item, reads it and deletes it.
    ///
    /// # Errors
    /// Names the action that failed.
    pub async fn check_access(&self) -> Result<(), TableError> {
        let name = format!("check/{}", fastrand::u64(..));
        let put = self.client.put_item().table_name(&self.table).item(PK, text(name.clone()));
        let put = put.item(EXPIRES, item::expires(OffsetDateTime::now_utc()));
        put.send().await.map_err(|error| self.failed("dynamodb:PutItem", &error))?;
        let update = self.client.update_item().table_name(&self.table).key(PK, text(name.clone()));
        let update = update.update_expression("SET #version = :one").expression_attribute_names("#version", VERSION);
        let update = update.expression_attribute_values(":one", number(1));
        update.send().await.map_err(|error| self.failed("dynamodb:UpdateItem", &error))?;
        let get = self.client.get_item().table_name(&self.table).key(PK, text(name.clone())).consistent_read(true);
        let read = get.send().await.map_err(|error| self.failed("dynamodb:GetItem", &error))?.item;
        let delete = self.client.delete_item().table_name(&self.table).key(PK, text(name));
        delete.send().await.map_err(|error| self.failed("dynamodb:DeleteItem", &error))?;
        match read.and_then(|mut item| item.remove(VERSION)) {
            Some(_) => Ok(()),
            None => Err(TableError::NotReadBack { table: self.table.clone() }),
        }
    }

    fn failed<E>(&self, action: &'static str, error: &SdkError<E>) -> TableError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        TableError::Request { action, table: self.table.clone(), class: ErrorClass::of(error), what: error_text(error) }
    }
}

/// One request to the table, which is counted however it ends. A cancelled one counts as an error.
struct Counted {
    operation: &'static str,
    outcome: &'static str,
}

impl Counted {
    fn new(operation: &'static str) -> Self {
        Self { operation, outcome: "error" }
    }

    fn end<O, E>(mut self, answer: Result<O, SdkError<E>>) -> Result<O, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match answer {
            Ok(answer) => {
                self.outcome = "ok";
                Ok(answer)
            }
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => {
                self.outcome = "conflict";
                Err(StoreError::Conflict)
            }
            Err(error) => Err(StoreError::Unavailable(error_text(&error))),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::store_request(self.operation, self.outcome);
    }
}

/// `pk (HASH, S)`, and any other key attributes.
fn primary_key(table: &TableDescription) -> String {
    let parts = table.key_schema().iter().map(|part| {
        let role = if part.key_type == KeyType::Hash { "HASH" } else { "RANGE" };
        let definition = table.attribute_definitions().iter().find(|one| one.attribute_name == part.attribute_name);
        let kind = definition.map_or("?", |definition| match definition.attribute_type {
            ScalarAttributeType::S => "S",
            ScalarAttributeType::N => "N",
            ScalarAttributeType::B => "B",
            _ => "?",
        });
        format!("{} ({role}, {kind})", part.attribute_name)
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn text(text: String) -> AttributeValue {
    AttributeValue::S(text)
}
