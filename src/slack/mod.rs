//! Slack: the channels that alerts are posted to, and whether any of them can take one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::select_all;
use tokio::{sync::watch, time::Instant};

use self::channel::{Flusher, Item, PostError, State};
use crate::{
    alert::Alert,
    batch::{Batcher, batcher},
    route::ChannelId,
    shutdown::Stop,
    webhook::{Source, Webhook, Webhooks},
};

pub mod channel;
pub mod client;
pub mod message;
pub mod render;

type States = Vec<State>;

/// What a channel is made from.
#[derive(Debug)]
pub struct ChannelSetup {
    /// Its name in the configuration, in metrics and logs.
    pub name: String,
    /// Where its webhook comes from.
    pub source: Source,
    /// Its webhook as first looked up.
    pub webhook: Webhook,
}

/// All channels.
#[derive(Debug)]
pub struct Slack {
    channels: Vec<Channel>,
    states: watch::Receiver<States>,
    share: usize,
}

#[derive(Debug)]
struct Channel {
    name: String,
    batcher: Batcher<Item, Result<(), PostError>>,
    held: AtomicUsize,
}

impl Slack {
    /// Starts a flusher for each channel on the current runtime. A request may take `timeout`; a blocked channel may hold
    /// its share of `max_in_flight` alerts, so that it leaves the others room.
    pub fn start(
        setups: Vec<ChannelSetup>,
        client: &client::Client,
        webhooks: &Webhooks,
        account_name: Option<&str>,
        timeout: Duration,
        max_in_flight: usize,
        stop: &Stop,
    ) -> Self {
        let (sender, states) = watch::channel(vec![State::Open; setups.len()]);
        let share = match setups.len() {
            1 => usize::MAX,
            channels => (max_in_flight / (channels + 1)).max(1),
        };
        let channels = setups.into_iter().enumerate().map(|(index, setup)| {
            let (batcher, inbox) = batcher();
            let flusher = Flusher {
                name: setup.name.clone(),
                index,
                inbox,
                client: client.clone(),
                webhooks: webhooks.clone(),
                source: setup.source,
                webhook: setup.webhook,
                account_name: account_name.map(str::to_owned),
                timeout,
                share,
                states: sender.clone(),
                stop: stop.clone(),
            };
            tokio::spawn(flusher.run());
            Channel { name: setup.name, batcher, held: AtomicUsize::new(0) }
        });
        Self { channels: channels.collect(), states, share }
    }

    /// Returns when Slack accepted the post that carries the alert.
    ///
    /// # Errors
    /// When no attempt could begin by `start_by`, or Slack refuses the alert in any form.
    pub async fn post(&self, channel: ChannelId, alert: Arc<Alert>, start_by: Instant) -> Result<(), PostError> {
        let blocked = self.states.borrow()[channel.0] != State::Open;
        let channel = &self.channels[channel.0];
        let _held = Held::new(&channel.held);
        if blocked && channel.held.load(Ordering::Relaxed) > self.share {
            return Err(PostError::Full);
        }
        channel.batcher.submit(Item { alert, start_by }).await.unwrap_or(Err(PostError::Stopped))
    }

    /// The channel's name.
    pub fn name(&self, channel: ChannelId) -> &str {
        &self.channels[channel.0].name
    }

    /// Returns when a channel's flusher is gone, with the channel's name. It ends only by a fault of ours, and nothing would be
    /// posted there any more.
    pub async fn broken(&self) -> &str {
        let closed = self.channels.iter().map(|channel| {
            Box::pin(async {
                channel.batcher.closed().await;
                channel.name.as_str()
            })
        });
        select_all(closed).await.0
    }

    /// `None` while some channel can take a post; else when the next attempt of any is due.
    pub fn blocked_until(&self) -> Option<Instant> {
        let mut earliest = None;
        for state in self.states.borrow().iter() {
            match *state {
                State::Open => return None,
                State::Blocked { until } => {
                    earliest = Some(earliest.map_or(until, |so_far: Instant| so_far.min(until)))
                }
            }
        }
        earliest
    }

    /// Returns when some channel can take a post.
    pub async fn unblocked(&self) {
        let mut states = self.states.clone();
        // An error means that every flusher is gone; then nothing will ever be unblocked, and the program is ending.
        if states.wait_for(|states| states.contains(&State::Open)).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Counts an alert as held by its channel until it is dropped.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
