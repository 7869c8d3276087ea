//! The page that shows the channels as people see them, and the data that it requests: posts by webhook, and messages of the Web API in
//! their current state, with their edits and threads.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use super::{Method, Request, Shared, Workspace, web_api::Message};

/// The page itself.
pub(super) async fn page() -> Html<&'static str> {
    Html(include_str!("../slack_page.html"))
}

/// The messages that are new or have changed since the first `count` accepted requests, and the number of accepted requests now.
pub(super) async fn changes(State(state): State<Shared>, Path(count): Path<usize>) -> Response {
    let body = state.borrow().changes_after(count).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

impl Workspace {
    fn changes_after(&self, count: usize) -> Value {
        let accepted: Vec<&Request> = self.requests.iter().filter(|request| request.accepted).collect();
        let changes = accepted.iter().enumerate().skip(count);
        let posts = changes.clone().filter(|(_, request)| request.method == Method::Webhook);
        let posts = posts.map(|(index, post)| {
            json!({
                "id": index.to_string(),
                "channel": post.webhook,
                "by": "webhook",
                "time": post.unix_ms as u64,
                "payload": post.payload,
            })
        });
        let changed: BTreeSet<(&str, &str)> = changes
            .filter(|(_, request)| request.method != Method::Webhook)
            .filter_map(|(_, request)| Some((request.webhook.as_str(), request.ts.as_deref()?)))
            .collect();
        let is_changed = |message: &&Message| changed.contains(&(message.channel.as_str(), message.ts.as_str()));
        let messages = self.messages.iter().filter(is_changed).map(|message| {
            // A `ts` begins with the second of the post.
            let second = message.ts.split('.').next().and_then(|second| second.parse::<u64>().ok());
            json!({
                "id": message.ts,
                "channel": message.channel,
                "by": "bot token",
                "time": second.unwrap_or_default() * 1000,
                "thread": message.thread_ts,
                "broadcast": message.broadcast,
                "edits": message.edits,
                "payload": message.payload,
            })
        });
        json!({ "count": accepted.len(), "messages": posts.chain(messages).collect::<Vec<_>>() })
    }
}
