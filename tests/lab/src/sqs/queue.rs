//! One queue: its messages by number, the order of those that are visible, and the times at which the others become visible.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::{Fault, number, unix_ms};
use crate::aws::Counts;

/// One SQS queue. Clones are cheap and share it.
#[derive(Clone)]
pub struct Queue {
    /// Its URL, as `QUEUE_URL` wants it.
    pub url: String,
    /// Its ARN.
    pub arn: String,
    /// The visibility timeout of receives that do not set one.
    visibility: Duration,
    /// After how many receives a message moves, and to which queue.
    redrive: Option<(u32, Box<Queue>)>,
    /// Receives return at once, although they ask for a long poll.
    ignores_wait: Arc<AtomicBool>,
    messages: Arc<Mutex<Messages>>,
    /// Notified when messages arrive or change, and when the last one is gone.
    changed: Arc<Notify>,
}

/// The requests to a queue so far.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// The number of requests about this queue, of every kind, as SQS bills them.
    pub requests: u64,
    /// When the first ReceiveMessage arrived.
    pub first_receive: Option<Instant>,
    /// For each received message, in the order of the receives: the time from its sending to its first receive.
    pub waits: Vec<Duration>,
}

#[derive(Default)]
struct Messages {
    stored: HashMap<u64, Message>,
    /// In the order in which receives return them. May contain deleted messages.
    visible: VecDeque<u64>,
    /// The earliest first. May contain messages that were deleted, or hidden again.
    hidden: BinaryHeap<Reverse<(Instant, u64)>>,
    next: u64,
    stats: Stats,
}

struct Message {
    body: String,
    md5: String,
    sent: Instant,
    sent_unix_ms: u128,
    receives: u32,
    hidden_until: Option<Instant>,
}

impl Queue {
    pub(super) fn new(url: String, arn: String, visibility: Duration, redrive: Option<(u32, Queue)>) -> Self {
        let redrive = redrive.map(|(receives, dlq)| (receives, Box::new(dlq)));
        Self {
            url,
            arn,
            visibility,
            redrive,
            ignores_wait: Arc::default(),
            messages: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// Adds messages, all at once, without HTTP.
    pub fn put(&self, bodies: impl IntoIterator<Item = String>) {
        let now = Instant::now();
        let mut messages = self.messages.lock();
        for body in bodies {
            messages.add(Message::new(body, now));
        }
        drop(messages);
        self.changed.notify_waiters();
    }

    /// Sets whether receives return at once, even if the queue is empty, as from a server without long polls.
    pub fn answer_at_once(&self, ignores_wait: bool) {
        self.ignores_wait.store(ignores_wait, Ordering::Relaxed);
    }

    /// How many messages it holds now.
    pub fn counts(&self) -> Counts {
        let mut messages = self.messages.lock();
        messages.show_again(Instant::now());
        let in_flight = messages.stored.values().filter(|message| message.hidden_until.is_some()).count();
        Counts { visible: (messages.stored.len() - in_flight) as u32, in_flight: in_flight as u32, delayed: 0 }
    }

    /// The bodies of the messages that it holds now, in the order in which they were sent.
    pub fn bodies(&self) -> Vec<String> {
        let messages = self.messages.lock();
        let mut stored: Vec<_> = messages.stored.iter().collect();
        stored.sort_unstable_by_key(|(id, _)| **id);
        stored.into_iter().map(|(_, message)| message.body.clone()).collect()
    }

    /// The requests to it so far.
    pub fn stats(&self) -> Stats {
        self.messages.lock().stats.clone()
    }

    /// Returns when every message has been deleted, or has gone to the dead-letter queue.
    pub async fn emptied(&self) {
        self.until(|messages| messages.stored.is_empty().then_some(())).await;
    }

    /// Waits for the first ReceiveMessage, and returns its time.
    pub async fn polled(&self) -> Instant {
        self.until(|messages| messages.stats.first_receive).await
    }

    async fn until<T>(&self, look: impl Fn(&Messages) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look(&self.messages.lock()) {
                return found;
            }
            changed.await;
        }
    }

    pub(super) fn count_request(&self) {
        self.messages.lock().stats.requests += 1;
    }

    pub(super) fn attributes(&self) -> Map<String, Value> {
        let counts = self.counts();
        let mut attributes = Map::new();
        let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), Value::String(value));
        set("QueueArn", self.arn.clone());
        set("VisibilityTimeout", self.visibility.as_secs().to_string());
        set("ApproximateNumberOfMessages", counts.visible.to_string());
        set("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string());
        set("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string());
        if let Some((receives, dlq)) = &self.redrive {
            let policy = json!({ "deadLetterTargetArn": dlq.arn, "maxReceiveCount": receives });
            set("RedrivePolicy", policy.to_string());
        }
        attributes
    }

    pub(super) fn send(&self, request: &Value) -> Result<Value, Fault> {
        let body = request["MessageBody"].as_str().ok_or("MissingParameter")?;
        let message = Message::new(body.to_owned(), Instant::now());
        let md5 = message.md5.clone();
        let id = self.messages.lock().add(message);
        self.changed.notify_waiters();
        Ok(json!({ "MessageId": message_id(id), "MD5OfMessageBody": md5 }))
    }

    /// A long poll. If the client disconnects, the poll is dropped and receives nothing.
    pub(super) async fn receive(&self, request: &Value) -> Value {
        let max = number(&request["MaxNumberOfMessages"]).unwrap_or(1).min(10) as usize;
        let visibility = number(&request["VisibilityTimeout"]).map_or(self.visibility, Duration::from_secs);
        let until = Instant::now() + Duration::from_secs(number(&request["WaitTimeSeconds"]).unwrap_or(0));
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let (received, next) = self.take(max, visibility);
            let now = Instant::now();
            if !received.is_empty() || now >= until || self.ignores_wait.load(Ordering::Relaxed) {
                return json!({ "Messages": received });
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(next.map_or(until, |next| next.min(until)).into()) => {}
            }
        }
    }

    /// Receives visible messages. Also returns when the next hidden one becomes visible.
    fn take(&self, max: usize, visibility: Duration) -> (Vec<Value>, Option<Instant>) {
        let now = Instant::now();
        let mut messages = self.messages.lock();
        if messages.stats.first_receive.is_none() {
            messages.stats.first_receive = Some(now);
            self.changed.notify_waiters();
        }
        messages.show_again(now);
        let mut received = Vec::new();
        while received.len() < max {
            let Some(id) = messages.visible.pop_front() else { break };
            let Some(message) = messages.stored.get_mut(&id) else { continue };
            if let Some((_, dlq)) = self.redrive.as_ref().filter(|(receives, _)| message.receives >= *receives) {
                // This takes another lock than the one that is held, because a queue is never its own dead-letter queue.
                dlq.put(messages.stored.remove(&id).map(|message| message.body));
                if messages.stored.is_empty() {
                    self.changed.notify_waiters();
                }
                continue;
            }
            message.receives += 1;
            message.hidden_until = Some(now + visibility);
            received.push(message.received(id));
            let first = (message.receives == 1).then(|| now - message.sent);
            messages.stats.waits.extend(first);
            messages.hidden.push(Reverse((now + visibility, id)));
        }
        (received, messages.hidden.peek().map(|Reverse((at, _))| *at))
    }

    /// With the handle of an earlier receive, nothing is deleted and no error is returned, as in SQS.
    pub(super) fn delete(&self, request: &Value) -> Result<Value, Fault> {
        let (id, receives) = handle(request)?;
        let mut messages = self.messages.lock();
        if messages.stored.get(&id).is_some_and(|message| message.receives == receives) {
            messages.stored.remove(&id);
            if messages.stored.is_empty() {
                self.changed.notify_waiters();
            }
        }
        Ok(json!({}))
    }

    pub(super) fn change_visibility(&self, request: &Value) -> Result<Value, Fault> {
        let (id, receives) = handle(request)?;
        let visibility = number(&request["VisibilityTimeout"]).ok_or("MissingParameter")?;
        let mut messages = self.messages.lock();
        let message = messages.stored.get_mut(&id).filter(|message| message.receives == receives);
        let message = message.filter(|message| message.hidden_until.is_some()).ok_or("MessageNotInflight")?;
        let until = Instant::now() + Duration::from_secs(visibility);
        message.hidden_until = Some(until);
        messages.hidden.push(Reverse((until, id)));
        // The message may now become visible earlier than waiting polls expect.
        self.changed.notify_waiters();
        Ok(json!({}))
    }
}

impl Messages {
    fn add(&mut self, message: Message) -> u64 {
        self.next += 1;
        self.stored.insert(self.next, message);
        self.visible.push_back(self.next);
        self.next
    }

    /// Makes messages visible whose time hidden has ended.
    fn show_again(&mut self, now: Instant) {
        while let Some(&Reverse((at, id))) = self.hidden.peek().filter(|Reverse((at, _))| *at <= now) {
            self.hidden.pop();
            if let Some(message) = self.stored.get_mut(&id).filter(|message| message.hidden_until == Some(at)) {
                message.hidden_until = None;
                self.visible.push_back(id);
            }
        }
    }
}

impl Message {
    fn new(body: String, sent: Instant) -> Self {
        let md5 = format!("{:x}", md5::compute(&body));
        Self { body, md5, sent, sent_unix_ms: unix_ms(), receives: 0, hidden_until: None }
    }

    fn received(&self, id: u64) -> Value {
        json!({
            "MessageId": message_id(id),
            "ReceiptHandle": format!("{id}-{}", self.receives),
            "Body": self.body,
            "MD5OfBody": self.md5,
            "Attributes": {
                "ApproximateReceiveCount": self.receives.to_string(),
                "SentTimestamp": self.sent_unix_ms.to_string(),
            },
        })
    }
}

fn message_id(id: u64) -> String {
    format!("00000000-0000-4000-8000-{id:012x}")
}

/// The number of a message, and the number of the receive, from a receipt handle.
fn handle(request: &Value) -> Result<(u64, u32), Fault> {
    let (id, receives) =
        request["ReceiptHandle"].as_str().and_then(|handle| handle.split_once('-')).ok_or("ReceiptHandleIsInvalid")?;
    id.parse().ok().zip(receives.parse().ok()).ok_or("ReceiptHandleIsInvalid")
}
