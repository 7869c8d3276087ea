//! A table in the emulator's DynamoDB, for the incidents of a round.

use anyhow::Result;
use axum::body::Bytes;
use serde_json::{Value, json};

use crate::aws::{ACCOUNT, Aws, REGION};

/// The table. The emulator ends with its last client.
pub(super) struct Table {
    pub(super) name: String,
    aws: Aws,
    client: reqwest::Client,
}

impl Table {
    pub(super) async fn create() -> Result<Self> {
        let aws = Aws::shared().await?;
        let name = crate::unique("chaos");
        aws.create_table(&name).await?;
        Ok(Self { name, aws, client: reqwest::Client::builder().no_proxy().build()? })
    }

    /// Sends a request, and returns the status and the answer. `target` is the JSON protocol's header that names the operation.
    pub(super) async fn ask(&self, target: &str, body: Bytes) -> (u16, Value) {
        let answer = async {
            // The emulator takes the access key as the account's id, so the worker's key is replaced.
            let scope = format!("{ACCOUNT}/20260101/{REGION}/dynamodb/aws4_request");
            let request = self.client.post(self.aws.endpoint()).body(body);
            let request = request.header("x-amz-target", target).header("content-type", "application/x-amz-json-1.0");
            let authorization = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0");
            let response = request.header("authorization", authorization).send().await?;
            let status = response.status().as_u16();
            anyhow::Ok((status, serde_json::from_str(&response.text().await?)?))
        };
        answer.await.unwrap_or_else(|error| (502, json!({ "message": format!("{error:#}") })))
    }
}
