//! The tags of a service: whose it is, where its runbook stands. Pure.

use serde_json::{Map, Value};

use crate::event::{list, text};

/// How many tags a resource has at most. <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html>
const MOST: usize = 50;

/// The tags of one service, keys and values as they are: both are case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags(Value);

impl Tags {
    /// Those of a service as DescribeServices describes it with `include = ["TAGS"]`.
    pub fn of(described: &Value) -> Self {
        let tags = list(described, "tags").take(MOST).filter_map(|tag| {
            // A tag may have no value, which is the empty text.
            let value = tag.get("value").and_then(Value::as_str).unwrap_or_default();
            Some((text(tag, "key")?.to_owned(), value.into()))
        });
        Self(Value::Object(tags.collect::<Map<_, _>>()))
    }

    /// The value of a tag; none where the service does not have it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// An object of tag keys and values, as a pattern sees it.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}
