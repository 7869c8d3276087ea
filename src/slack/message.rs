//! What Slack is sent: its limits, text, blocks and JSON body. Knows nothing of alerts.
//!
//! Invariant: text from outside gets into a message only through [`Text`], which escapes it and keeps it within a limit. So no
//! event can page a channel, forge a link, or make a message too long.

mod text;

use serde_json::{Value, json};

pub use text::{Text, visible};

/// Blocks in one message. <https://docs.slack.dev/reference/block-kit/blocks>
pub const MAX_BLOCKS: usize = 50;
/// Characters in one text object, so in a section.
/// <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>
pub const MAX_SECTION: usize = 3_000;
/// Characters in one URL; Slack documents it for buttons, we hold links to it as well.
/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>
pub const MAX_URL: usize = 3_000;
/// Characters in the top-level `text`, which Slack cuts off there.
/// <https://api.slack.com/changelog/2018-04-truncating-really-long-messages>
pub const MAX_TEXT: usize = 40_000;
/// Characters in all blocks of one message, with [`BLOCK`] for each: our own budget. Slack refuses longer messages
/// (`msg_blocks_too_long`) but documents no number; people found 12,000 characters of text and some more for the blocks around it.
/// <https://github.com/slackapi/bolt-js/issues/2509>
pub const MAX_MESSAGE: usize = 12_000;
/// What a block adds to a message beside its text: the JSON around it.
pub const BLOCK: usize = 80;

/// The JSON body of one request to a webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload(Value);

impl Payload {
    /// `text` is what a phone's notification shows; the blocks stand in an attachment, because only attachments have a colour.
    /// `color` is `good`, `warning`, `danger` or `#RRGGBB`.
    pub fn new(text: Text, color: &str, blocks: Vec<Value>) -> Self {
        debug_assert!(blocks.len() <= MAX_BLOCKS);
        Self(json!({"text": text.markup, "attachments": [{"color": color, "blocks": blocks}]}))
    }

    /// Nothing but text.
    pub fn plain(text: Text) -> Self {
        Self(json!({"text": text.markup}))
    }

    /// Appends markup of the configuration's own to the text that a notification shows.
    pub fn append_text(&mut self, markup: &str) {
        let text = self.0["text"].as_str().unwrap_or_default();
        self.0["text"] = format!("{text}{markup}").into();
    }

    /// The bytes to send.
    pub fn body(&self) -> String {
        self.0.to_string()
    }

    /// The same as a JSON value.
    pub fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// A section block.
pub fn section(text: Text) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

/// A context block: one line in small grey print.
pub fn context(text: Text) -> Value {
    json!({"type": "context", "elements": [mrkdwn(text)]})
}

/// `verbatim` keeps Slack from making links and mentions of names that came from outside.
fn mrkdwn(text: Text) -> Value {
    json!({"type": "mrkdwn", "text": text.markup, "verbatim": true})
}
