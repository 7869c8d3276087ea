//! Slack: the channels that alerts are posted to, and their states.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::select_all;
use tokio::{sync::watch, time::Instant};

use self::{
    answer::SlackAnswer,
    channel::{ChannelState, Destination, Flusher, Item, Place, PostError},
    client::Client,
    report::Report,
    target::{Secrets, Target, TargetSource},
};
use crate::{
    batch::{Batcher, batcher},
    route::ChannelId,
    shutdown::StopSignal,
    webhook::BotToken,
};

pub mod answer;
pub mod channel;
pub mod client;
mod clock;
pub mod message;
pub mod render;
pub mod report;
pub mod target;
pub mod web_api;

type ChannelStates = Vec<ChannelState>;

/// How to build a channel.
#[derive(Debug)]
pub struct ChannelSetup {
    /// Its name in the configuration, in metrics and in logs.
    pub name: String,
    /// The source of its webhook or token.
    pub source: TargetSource,
    /// The webhook or token, as read at the start.
    pub target: Target,
    /// The channel that takes its alerts while Slack refuses this one. A chain of fallbacks has no cycle.
    pub fallback: Option<ChannelId>,
}

/// What all channels share.
#[derive(Debug)]
pub struct Shared {
    /// Sends the requests to Slack.
    pub client: Client,
    /// Reads webhooks and tokens again.
    pub secrets: Secrets,
    /// The AWS account's name in messages.
    pub account_name: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
    /// The most messages in flight in the whole program.
    pub max_in_flight: usize,
}

/// All channels.
#[derive(Debug)]
pub struct Slack {
    channels: Vec<Channel>,
    states: watch::Receiver<ChannelStates>,
    share: usize,
}

#[derive(Debug)]
struct Channel {
    name: String,
    /// The id of the Slack channel that a bot posts to; `None` for a webhook.
    id: Option<String>,
    posts: Lane,
    /// The edits of all channels with the same token share a flusher.
    edits: Option<Arc<Lane>>,
    fallback: Option<ChannelId>,
}

/// Submits reports to one flusher, and counts those that the flusher holds.
#[derive(Debug)]
struct Lane {
    batcher: Batcher<Item, Result<Place, PostError>>,
    held: AtomicUsize,
}

impl Slack {
    /// Starts one flusher for the posts of each channel and one for the edits of each bot token, on the current runtime. A
    /// blocked channel may hold only its share of the messages in flight, which leaves room for the other channels.
    pub fn start(setups: Vec<ChannelSetup>, shared: Shared, stop: &StopSignal) -> Self {
        let (sender, states) = watch::channel(vec![ChannelState::Open; setups.len()]);
        let share = match setups.len() {
            1 => usize::MAX,
            channels => (shared.max_in_flight / (channels + 1)).max(1),
        };
        let names: Arc<[String]> = setups.iter().map(|setup| setup.name.clone()).collect();
        let fallbacks: Arc<[Option<ChannelId>]> = setups.iter().map(|setup| setup.fallback).collect();
        let lane = |setup: &ChannelSetup, publishes: Option<(ChannelId, watch::Sender<ChannelStates>)>| {
            let (batcher, inbox) = batcher();
            let flusher = Flusher {
                names: Arc::clone(&names),
                inbox,
                client: shared.client.clone(),
                secrets: shared.secrets.clone(),
                source: setup.source.clone(),
                target: setup.target.clone(),
                account_name: shared.account_name.clone(),
                timeout: shared.timeout,
                share,
                publishes,
                fallbacks: Arc::clone(&fallbacks),
                probe: None,
                stop: stop.clone(),
            };
            tokio::spawn(flusher.run());
            Lane { batcher, held: AtomicUsize::new(0) }
        };
        let mut by_token: HashMap<BotToken, Arc<Lane>> = HashMap::new();
        let channels = setups.iter().enumerate().map(|(index, setup)| {
            let edits = match &setup.target {
                Target::Webhook(_) => None,
                Target::Bot(bot) => {
                    let edits = by_token.entry(bot.token.clone()).or_insert_with(|| Arc::new(lane(setup, None)));
                    Some(Arc::clone(edits))
                }
            };
            let posts = lane(setup, Some((ChannelId(index), sender.clone())));
            let id = setup.target.channel_id().map(str::to_owned);
            Channel { name: setup.name.clone(), id, posts, edits, fallback: setup.fallback }
        });
        Self { channels: channels.collect(), states, share }
    }

    /// Returns after Slack accepted the request that carries the report, with the place of the message.
    ///
    /// # Errors
    /// When no request could begin by `start_by`, or Slack refuses the report in any form. Fails at once if Slack refuses the
    /// channel, the channel has a fallback, and its next attempt is not due yet. The first report after that time is the attempt.
    pub async fn post(
        &self,
        channel: ChannelId,
        report: Report,
        to: Destination,
        start_by: Instant,
    ) -> Result<Place, PostError> {
        let blocked = match &self.states.borrow()[channel.0] {
            ChannelState::Open => false,
            ChannelState::Blocked { .. } => true,
            ChannelState::Refused { until, answer } if Instant::now() < *until => {
                return Err(PostError::TargetRefused(answer.clone()));
            }
            // The next attempt is due, and this report is that attempt.
            ChannelState::Refused { .. } => false,
        };
        let at = &self.channels[channel.0];
        let is_edit = matches!(to, Destination::Edit(_));
        let lane = match &at.edits {
            Some(edits) if is_edit => edits,
            _ => &at.posts,
        };
        let _held = HeldCount::new(&lane.held);
        if blocked && lane.held.load(Ordering::Relaxed) > self.share {
            return Err(PostError::Full);
        }
        let item = Item { channel, report, to, start_by };
        lane.batcher.submit(item).await.unwrap_or(Err(PostError::Stopped))
    }

    /// Whether as many edits wait as Slack takes in a minute. An edit that only updates a count can then be skipped, because a
    /// later one shows the same.
    pub fn is_behind_with_edits(&self, channel: ChannelId) -> bool {
        const EDITS_PER_MINUTE: usize = 50;
        self.channels[channel.0]
            .edits
            .as_ref()
            .is_some_and(|edits| edits.held.load(Ordering::Relaxed) >= EDITS_PER_MINUTE)
    }

    /// The id of the Slack channel in which it can reply and edit; `None` for a webhook, which can only post.
    pub fn threads_in(&self, channel: ChannelId) -> Option<&str> {
        self.channels[channel.0].id.as_deref()
    }

    /// The channel that takes the alerts of this one while Slack refuses it.
    pub fn fallback(&self, channel: ChannelId) -> Option<ChannelId> {
        self.channels[channel.0].fallback
    }

    /// Slack's refusal of the channel, while its fallback takes its alerts.
    pub fn refusal(&self, channel: ChannelId) -> Option<SlackAnswer> {
        match &self.states.borrow()[channel.0] {
            ChannelState::Refused { answer, .. } => Some(answer.clone()),
            ChannelState::Open | ChannelState::Blocked { .. } => None,
        }
    }

    /// Whether an alert for the channel can be posted now, as far as is known: there or in its fallback.
    pub fn takes(&self, channel: ChannelId) -> bool {
        let states = self.states.borrow();
        let chain = std::iter::successors(Some(channel), |channel| self.fallback(*channel));
        let first =
            chain.map(|channel| &states[channel.0]).find(|state| !matches!(state, ChannelState::Refused { .. }));
        first == Some(&ChannelState::Open)
    }

    /// Changes whenever the state of a channel changes.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.states.clone()
    }

    /// Every channel.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> + use<> {
        (0..self.channels.len()).map(ChannelId)
    }

    /// How many alerts a blocked channel may hold, so that the other channels have room.
    pub fn share(&self) -> usize {
        self.share
    }

    /// The channel's name.
    pub fn name(&self, channel: ChannelId) -> &str {
        &self.channels[channel.0].name
    }

    /// Returns when a channel's flusher has ended, with the channel's name. Only a bug ends it, and then nothing is posted there
    /// any more.
    pub async fn broken(&self) -> &str {
        let closed = self.channels.iter().map(|channel| {
            Box::pin(async {
                channel.posts.batcher.closed().await;
                channel.name.as_str()
            })
        });
        select_all(closed).await.0
    }

    /// `None` while at least one channel can take a post; else when the next attempt of any channel is due.
    pub fn blocked_until(&self) -> Option<Instant> {
        let mut earliest = None;
        for state in self.states.borrow().iter() {
            match *state {
                ChannelState::Open => return None,
                // A refused channel takes no post itself. If its fallback can take its alerts, the fallback is open.
                ChannelState::Blocked { until } | ChannelState::Refused { until, .. } => {
                    earliest = Some(earliest.map_or(until, |so_far: Instant| so_far.min(until)))
                }
            }
        }
        earliest
    }

    /// Returns when at least one channel can take a post.
    pub async fn unblocked(&self) {
        let mut states = self.states.clone();
        // An error means that every flusher has ended: no channel will open any more, and the program is ending.
        if states.wait_for(|states| states.contains(&ChannelState::Open)).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Counts an alert as held by its channel until it is dropped.
struct HeldCount<'a>(&'a AtomicUsize);

impl<'a> HeldCount<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for HeldCount<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
