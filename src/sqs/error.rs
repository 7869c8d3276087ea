//! Why a request to SQS failed.

use std::{error::Error, sync::Arc};

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use super::send;
use crate::aws::ErrorClass;

/// A failed request to SQS, or a failed entry of a batch.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}: {}", describe(*class))]
pub struct SqsError {
    operation: &'static str,
    /// The kind of the failure.
    pub class: ErrorClass,
    /// Whether the same request may succeed a little later.
    pub retryable: bool,
    source: Arc<dyn Error + Send + Sync>,
}

impl SqsError {
    pub(super) fn new<E>(operation: &'static str, error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let class = ErrorClass::of(&error);
        // Errors about credentials are included: the receive succeeded with valid ones, and fresh ones may come at any moment.
        let retryable = matches!(
            class,
            ErrorClass::Timeout
                | ErrorClass::Network
                | ErrorClass::Server
                | ErrorClass::Throttled
                | ErrorClass::Expired
                | ErrorClass::Rejected
                | ErrorClass::NoCredentials
                | ErrorClass::CredentialsUnavailable
        );
        Self { operation, class, retryable, source: Arc::new(error) }
    }

    /// The denied IAM action, if access was denied: SQS's action, or KMS's for an encrypted queue.
    pub fn denied_action(&self) -> Option<String> {
        // A batch needs the permission of the single action.
        let action = self.operation.strip_suffix("Batch").unwrap_or(self.operation);
        match self.class {
            ErrorClass::Denied => Some(format!("sqs:{action}")),
            ErrorClass::KeyDenied => Some("kms:Decrypt on the key that encrypts the queue".into()),
            _ => None,
        }
    }

    /// Whether the failed request was to send messages.
    pub fn is_from_send(&self) -> bool {
        self.operation == send::SEND
    }

    /// The error and all its sources, for a log.
    pub fn chain(&self) -> String {
        format!("{:#}", anyhow::Error::from(self.clone()))
    }

    pub(super) fn other(
        operation: &'static str,
        retryable: bool,
        what: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { operation, class: ErrorClass::Other, retryable, source: what.into().into() }
    }
}

/// Describes a class in words that fit a queue.
fn describe(class: ErrorClass) -> String {
    if class == ErrorClass::NotFound { "the queue does not exist".into() } else { class.to_string() }
}
