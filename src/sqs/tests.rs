use super::*;
use crate::aws::ErrorClass;

#[test]
fn a_redrive_policy_may_hold_its_count_as_a_number_or_a_string() {
    for policy in [
        r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:dlq","maxReceiveCount":5}"#,
        r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:dlq","maxReceiveCount":"5"}"#,
    ] {
        let redrive = Redrive::parse(policy).unwrap();
        assert_eq!((redrive.dead_letter_arn.as_str(), redrive.max_receive_count), ("arn:aws:sqs:eu-west-1:1:dlq", 5));
    }
    assert_eq!(Redrive::parse("{}"), None);
}

/// SQS, or a proxy on the way, may close an idle connection at the moment when it is used.
#[tokio::test]
async fn a_connection_that_closes_without_an_answer_is_a_network_error_and_retryable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/123456789012/q", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut request).await;
        }
    });
    let aws = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region("eu-west-1")
        .endpoint_url(&url)
        .credentials_provider(aws_sdk_sqs::config::Credentials::new("key", "secret", None, None, "test"))
        .load()
        .await;
    let error = Queue::new(&aws, &url).state().await.unwrap_err();
    assert_eq!((error.class, error.retryable), (ErrorClass::Network, true), "{}", error.chain());
}
