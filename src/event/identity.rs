//! Recognises copies of an event. Copies have the same id, if any, *and* the same content.
//!
//! The id alone is not enough, because an input transformer may give the same id to all events. The content alone is not enough either:
//! two events `{"text": "checkout failed"}` are two failures. So if an event has neither an id nor a time, the id of the message that
//! carried it counts too.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use super::Event;

/// The field that EventBridge adds to an event when it replays it from an archive.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-replay-archived-event.html>
const ADDED_BY_DELIVERY: &str = "replay-name";

/// Identifies an event. Copies of one event have the same identity, in every process and version; different events have different
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u8; 16]);

/// Collects the bytes for one call of SHA-256, because a call for each piece of a few bytes takes several times as long. With SHA-256,
/// nobody can make an event with the identity of another event.
struct Sink(Vec<u8>);

impl Hasher for Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        // Unused: only the SHA-256 of all bytes counts.
        0
    }
}

impl Event {
    /// The event's identity. `message_id` is the id of the message that carried it, `index` its position in that message.
    ///
    /// Neither the SNS notification nor the SQS record around an event counts, nor the order of keys, nor white space: SNS, a pipe, or a
    /// person who sends a message again may change these.
    pub fn identity(&self, message_id: &str, index: usize) -> Identity {
        let mut sink = Sink(Vec::with_capacity(4096));
        self.hash(message_id, index, &mut sink);
        let mut identity = [0; 16];
        identity.copy_from_slice(&Sha256::digest(&sink.0)[..16]);
        Identity(identity)
    }

    fn hash(&self, message_id: &str, index: usize, hasher: &mut impl Hasher) {
        // The map is sorted by name, so the order of keys in the text does not matter.
        for (name, value) in self.value.as_object().into_iter().flatten().filter(|(name, _)| *name != ADDED_BY_DELIVERY)
        {
            (name, value).hash(hasher);
        }
        if self.id().is_none() && self.time().is_none() {
            match &self.carrier {
                Some(carrier) => carrier.hash(hasher),
                None => (message_id, index).hash(hasher),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The identities of the events in a message.
    fn identities(body: &str, message_id: &str) -> Vec<Identity> {
        let events = Event::decode(body).unwrap();
        events.iter().enumerate().map(|(index, event)| event.identity(message_id, index)).collect()
    }

    #[track_caller]
    fn assert_same_event(a: &str, b: &str) {
        assert_eq!(identities(a, "sent first"), identities(b, "sent again"), "{a}\n{b}");
    }

    #[track_caller]
    fn assert_different_events(a: &str, b: &str) {
        assert_ne!(identities(a, "sent first"), identities(b, "sent again"), "{a}\n{b}");
    }

    fn event(id: &str, service: &str) -> Value {
        json!({
            "version": "0", "id": id, "detail-type": "ECS Service Action", "time": "2026-03-14T15:09:26Z",
            "detail": { "eventName": "SERVICE_TASK_START_IMPAIRED", "serviceName": service },
        })
    }

    #[test]
    fn events_with_the_same_id_are_copies_only_if_their_content_is_the_same() {
        assert_same_event(&event("ecs", "web").to_string(), &event("ecs", "web").to_string());
        assert_different_events(&event("ecs", "web").to_string(), &event("ecs", "api").to_string());
        assert_different_events(&event("1", "web").to_string(), &event("2", "web").to_string());
        let mut later = event("ecs", "web");
        later["time"] = json!("2026-03-14T15:19:26Z");
        assert_different_events(&event("ecs", "web").to_string(), &later.to_string());
    }

    #[test]
    fn formatting_wrappers_and_replays_do_not_change_the_identity() {
        let plain = event("ecs", "web");
        let sns = |id: &str, time: &str| {
            json!({
                "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "MessageId": id, "Timestamp": time,
                "Signature": format!("of {id}"), "Message": plain.to_string(),
            })
        };
        let record = json!({ "messageId": "m", "receiptHandle": "h", "body": plain.to_string() });
        let mut replayed = plain.clone();
        replayed["replay-name"] = json!("yesterday");
        let other_order = r#"{ "detail" : {"serviceName":"web", "eventName":"SERVICE_TASK_START_IMPAIRED"},
            "time": "2026-03-14T15:09:26Z", "detail-type": "ECS Service\u0020Action", "id": "ecs", "version": "0" }"#;
        let pretty = serde_json::to_string_pretty(&plain).unwrap();
        for copy in [
            &pretty,
            other_order,
            &sns("1", "2026-03-14T15:09:27Z").to_string(),
            &sns("2", "2026-03-14T15:20:00Z").to_string(),
            &record.to_string(),
            &json!({ "Records": [record] }).to_string(),
            &replayed.to_string(),
        ] {
            assert_same_event(&plain.to_string(), copy);
        }
    }

    #[test]
    fn without_an_id_the_time_counts_and_without_a_time_the_message_id() {
        let timed =
            json!({ "AlarmName": "cpu", "NewStateValue": "ALARM", "StateChangeTime": "2026-03-02T08:15:42.236+0000" });
        assert_same_event(&timed.to_string(), &timed.to_string());

        let text = json!({ "text": "checkout failed" }).to_string();
        assert_different_events(&text, &text);
        assert_eq!(identities(&text, "received twice"), identities(&text, "received twice"));

        // A move from the dead-letter queue gives a message a new id, but the ids in the SNS and SQS wrappers stay.
        let sns = |id: &str| json!({ "Type": "Notification", "MessageId": id, "Message": text }).to_string();
        assert_same_event(&sns("1"), &sns("1"));
        assert_different_events(&sns("1"), &sns("2"));
        let record = |id: &str| json!({ "Records": [{ "messageId": id, "body": text }] }).to_string();
        assert_same_event(&record("1"), &record("1"));
        assert_different_events(&record("1"), &record("2"));
    }

    #[test]
    fn in_one_message_a_text_without_id_and_time_twice_is_two_events_but_an_event_twice_is_one() {
        let both =
            |body: &str| identities(&json!({ "Records": [{ "body": body }, { "body": body }] }).to_string(), "m");
        let texts = both(r#"{"text": "failed"}"#);
        assert_ne!(texts[0], texts[1]);
        let copies = both(&event("ecs", "web").to_string());
        assert_eq!(copies[0], copies[1]);
    }
}
