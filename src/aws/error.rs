//! Classifies the errors of AWS requests, by the codes that AWS's services share. Every client uses this, so that a failure has
//! the same class everywhere.

use std::{error::Error, fmt};

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use super::credentials::CredentialsFailure;

/// The kind of a request's failure: a label for logs, and a message for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The resource does not exist.
    NotFound,
    /// The credentials are valid, but do not allow the request.
    Denied,
    /// The credentials allow the request, but not the use of the resource's KMS key.
    KeyDenied,
    /// The resource's KMS key is disabled, deleted or of the wrong type.
    KeyUnusable,
    /// The credentials have expired. They are no longer cached.
    Expired,
    /// AWS does not accept the credentials.
    Rejected,
    /// There are no credentials, or their source is misconfigured.
    NoCredentials,
    /// The source of the credentials did not answer, or failed.
    CredentialsUnavailable,
    /// The request could not be built, for example because of an invalid endpoint.
    Unsendable,
    /// AWS refuses the request as invalid.
    Invalid,
    /// AWS throttles the request.
    Throttled,
    /// No answer in time.
    Timeout,
    /// The connection failed.
    Network,
    /// AWS failed (5xx), or the answer is not from AWS.
    Server,
    /// Anything else.
    Other,
}

impl ErrorClass {
    /// The class of a request's error.
    pub fn of<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> Self {
        match error {
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) => match find::<CredentialsFailure>(error) {
                Some(failure) if failure.permanent => Self::NoCredentials,
                Some(_) => Self::CredentialsUnavailable,
                None if failure.is_timeout() => Self::Timeout,
                // The SDK reports a connection that closes without an answer as "other", with the kind of a transient error.
                None if failure.is_io() || failure.as_other().is_some() => Self::Network,
                None => Self::Unsendable,
            },
            SdkError::ConstructionFailure(_) => Self::Unsendable,
            SdkError::ResponseError(_) => Self::Server,
            SdkError::ServiceError(service) => {
                let metadata = service.err().meta();
                let server_error = service.raw().status().is_server_error();
                Self::of_code(metadata.code().unwrap_or_default(), metadata.message().unwrap_or_default(), server_error)
            }
            _ => Self::Other,
        }
    }

    /// The class of an error code that SQS, ECS, Secrets Manager, CloudWatch Logs, DynamoDB or AWS's signature check documents.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
    /// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html#API_GetSecretValue_Errors>
    pub(super) fn of_code(code: &str, message: &str, server_error: bool) -> Self {
        // `com.amazonaws.sqs#KmsDisabled`, `AWS.SimpleQueueService.NonExistentQueue`, `KMS.AccessDeniedException`
        let code = code.rsplit('#').next().unwrap_or_default();
        let of_kms = code.strip_prefix("KMS.").or_else(|| code.strip_prefix("Kms"));
        match (of_kms, code.rsplit('.').next().unwrap_or_default()) {
            (Some("AccessDeniedException" | "AccessDenied"), _) => Self::KeyDenied,
            (Some("ThrottlingException" | "Throttled"), _) => Self::Throttled,
            (Some(_), _) | (_, "DecryptionFailure" | "EncryptionFailure") => Self::KeyUnusable,
            (_, "NonExistentQueue" | "QueueDoesNotExist" | "ResourceNotFoundException") => Self::NotFound,
            // Secrets Manager: "Access to KMS is not allowed"; IAM: "… is not authorized to perform: kms:Decrypt …".
            (_, "AccessDenied" | "AccessDeniedException") if message.contains("KMS") || message.contains("kms:") => {
                Self::KeyDenied
            }
            (_, "AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "UnauthorizedException") => Self::Denied,
            (
                _,
                "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired" | "InvalidToken",
            ) => Self::Expired,
            (
                _,
                "IncompleteSignature"
                | "IncompleteSignatureException"
                | "InvalidClientTokenId"
                | "InvalidSecurity"
                | "InvalidSignatureException"
                | "MissingAuthenticationToken"
                | "MissingAuthenticationTokenException"
                | "SignatureDoesNotMatch"
                | "UnrecognizedClientException",
            ) => Self::Rejected,
            (
                _,
                "LimitExceededException"
                | "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded"
                | "RequestThrottled"
                | "ThrottledException"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "TooManyRequestsException",
            ) => Self::Throttled,
            // Secrets Manager's code for a secret that is marked for deletion is `InvalidRequestException`.
            (_, "InvalidAddress" | "InvalidParameterException" | "InvalidRequestException" | "ValidationException") => {
                Self::Invalid
            }
            _ if server_error => Self::Server,
            _ => Self::Other,
        }
    }

    /// True if only a change of configuration or permissions helps. A retry at the start would hide the mistake.
    pub fn is_misconfiguration(self) -> bool {
        match self {
            Self::NotFound
            | Self::Denied
            | Self::KeyDenied
            | Self::KeyUnusable
            | Self::Rejected
            | Self::NoCredentials
            | Self::Unsendable
            | Self::Invalid => true,
            Self::Expired
            | Self::CredentialsUnavailable
            | Self::Throttled
            | Self::Timeout
            | Self::Network
            | Self::Server
            | Self::Other => false,
        }
    }

    /// True if fresh credentials may help. The refused ones are no longer cached.
    pub fn is_about_stale_credentials(self) -> bool {
        matches!(self, Self::Expired | Self::Rejected)
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "it does not exist",
            Self::Denied => "access denied",
            Self::KeyDenied => "access to its KMS key denied",
            Self::KeyUnusable => "its KMS key cannot be used",
            Self::Expired => "the AWS credentials have expired",
            Self::Rejected => "AWS does not accept the credentials",
            Self::NoCredentials => "no valid AWS credentials",
            Self::CredentialsUnavailable => "the AWS credentials cannot be fetched",
            Self::Unsendable => "the request cannot be made; check AWS_ENDPOINT_URL",
            Self::Invalid => "refused as invalid",
            Self::Throttled => "throttled",
            Self::Timeout => "timed out",
            Self::Network => "network error",
            Self::Server => "AWS server error",
            Self::Other => "refused",
        })
    }
}

/// AWS's description of the error, or what happened to the request. Never the text of an answer that could not be parsed: it may
/// hold a secret.
pub fn error_text<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> String {
    let class = ErrorClass::of(error);
    match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("refused");
            service.err().message().map_or_else(|| code.to_owned(), |message| format!("{code}: {message}"))
        }
        SdkError::TimeoutError(_) => "no answer in time".into(),
        SdkError::DispatchFailure(failure) => {
            let source = failure.as_connector_error().and_then(Error::source);
            source.map_or_else(|| class.to_string(), |source| format!("{class}: {}", chain(source)))
        }
        _ => "the answer is not from AWS".into(),
    }
}

/// An error and all its sources.
fn chain(error: &(dyn Error + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The first error of this type among `error` and its sources.
pub(super) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_of_every_protocol_have_their_class() {
        for (code, class) in [
            ("AWS.SimpleQueueService.NonExistentQueue", ErrorClass::NotFound),
            ("com.amazonaws.sqs#QueueDoesNotExist", ErrorClass::NotFound),
            ("ResourceNotFoundException", ErrorClass::NotFound),
            ("AccessDeniedException", ErrorClass::Denied),
            ("KMS.AccessDeniedException", ErrorClass::KeyDenied),
            ("com.amazonaws.sqs#KmsAccessDenied", ErrorClass::KeyDenied),
            ("KmsDisabled", ErrorClass::KeyUnusable),
            ("KMS.NotFoundException", ErrorClass::KeyUnusable),
            ("KMS.ThrottlingException", ErrorClass::Throttled),
            ("KmsThrottled", ErrorClass::Throttled),
            ("DecryptionFailure", ErrorClass::KeyUnusable),
            ("ExpiredToken", ErrorClass::Expired),
            ("com.amazon.coral.service#ExpiredTokenException", ErrorClass::Expired),
            ("RequestExpired", ErrorClass::Expired),
            ("InvalidClientTokenId", ErrorClass::Rejected),
            ("UnrecognizedClientException", ErrorClass::Rejected),
            ("InvalidRequestException", ErrorClass::Invalid),
            ("ThrottlingException", ErrorClass::Throttled),
            ("InternalError", ErrorClass::Other),
            ("", ErrorClass::Other),
        ] {
            assert_eq!(ErrorClass::of_code(code, "", false), class, "{code}");
        }
        assert_eq!(ErrorClass::of_code("InternalError", "", true), ErrorClass::Server);
        assert_eq!(ErrorClass::of_code("", "", true), ErrorClass::Server);
    }

    #[test]
    fn a_denial_by_kms_differs_from_one_by_the_service() {
        for (message, class) in [
            ("Access to KMS is not allowed", ErrorClass::KeyDenied),
            (
                "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: kms:Decrypt on …",
                ErrorClass::KeyDenied,
            ),
            (
                "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: sqs:ReceiveMessage",
                ErrorClass::Denied,
            ),
        ] {
            assert_eq!(ErrorClass::of_code("AccessDeniedException", message, false), class, "{message}");
        }
    }
}
