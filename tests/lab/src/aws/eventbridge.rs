//! The few requests that the tests and the demo make to EventBridge: JSON over HTTP, as the SDK sends them. The worker makes none, and
//! the SDK's crate for this service takes long to compile.
//!
//! Actions, fields and errors: <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Operations.html>

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{ACCOUNT, REGION};

/// A client of one endpoint.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: String,
}

impl Client {
    pub(super) fn new(endpoint: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { http, endpoint: endpoint.to_owned() })
    }

    /// Makes one request, and returns its answer. An error contains EventBridge's own text.
    pub(super) async fn call(&self, action: &str, request: &Value) -> Result<Value> {
        // The emulator reads the account and the Region from the signature's scope. It does not check the signature.
        let scope = format!("Credential={ACCOUNT}/20260101/{REGION}/events/aws4_request");
        let response = self
            .http
            .post(&self.endpoint)
            .header(CONTENT_TYPE, "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AWSEvents.{action}"))
            .header(AUTHORIZATION, format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none"))
            .body(request.to_string())
            .send()
            .await
            .with_context(|| action.to_owned())?;
        let (status, body) = (response.status(), response.text().await?);
        ensure!(status == 200, "{action}: {status} {body}");
        let answer: Value = serde_json::from_str(if body.is_empty() { "null" } else { &body })?;
        // Actions that take a list report each entry that failed, in an answer with status 200.
        ensure!(answer["FailedEntryCount"].as_u64().unwrap_or(0) == 0, "{action}: {answer}");
        Ok(answer)
    }
}

/// An entry of PutEvents. Without a time, the event happens when EventBridge gets it.
pub(super) fn entry(bus: &str, event: &Value) -> Value {
    json!({
        "EventBusName": bus,
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Resources": event["resources"].as_array().map_or(&[][..], Vec::as_slice),
        "Detail": event["detail"].to_string(),
    })
}

/// [`entry`], for an event that happened at its `time`.
pub(super) fn past_entry(bus: &str, event: &Value) -> Result<Value> {
    let time = event["time"].as_str().context("the event has no time")?;
    let mut entry = entry(bus, event);
    entry["Time"] = OffsetDateTime::parse(time, &Rfc3339)?.unix_timestamp().into();
    Ok(entry)
}
