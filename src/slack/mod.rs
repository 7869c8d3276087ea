//! Slack: the channels that alerts are posted to, and whether any of them can take one.

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
    channel::{Destination, Flusher, Item, Place, PostError, State},
    client::{Answer, Client},
    report::Report,
    target::{Secrets, Source, Target},
};
use crate::{
    batch::{Batcher, batcher},
    route::ChannelId,
    shutdown::Stop,
    webhook::BotToken,
};

pub mod channel;
pub mod client;
mod clock;
pub mod message;
pub mod render;
pub mod report;
pub mod target;
pub mod web_api;

type States = Vec<State>;

/// What a channel is made from.
#[derive(Debug)]
pub struct ChannelSetup {
    /// Its name in the configuration, in metrics and logs.
    pub name: String,
    /// Where its webhook or token comes from.
    pub source: Source,
    /// Where it posts to, as first looked up.
    pub target: Target,
    /// Which channel takes its alerts while Slack refuses this one. No chain of fallbacks leads back to its beginning.
    pub fallback: Option<ChannelId>,
}

/// What all channels have in common.
#[derive(Debug)]
pub struct Shared {
    /// Asks Slack.
    pub client: Client,
    /// Looks webhooks and tokens up again.
    pub secrets: Secrets,
    /// The name people know the AWS account by.
    pub account_name: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Messages held at once by the whole program.
    pub max_in_flight: usize,
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
    /// The id of the Slack channel that a bot posts to; none by webhook.
    id: Option<String>,
    posts: Lane,
    /// The edits of all channels of one token go together.
    edits: Option<Arc<Lane>>,
    fallback: Option<ChannelId>,
}

/// What waits for one flusher.
#[derive(Debug)]
struct Lane {
    batcher: Batcher<Item, Result<Place, PostError>>,
    held: AtomicUsize,
}

impl Slack {
    /// Starts a flusher for the posts of each channel, and one for the edits of each bot token, on the current runtime. A
    /// blocked channel may hold its share of the messages in flight, so that it leaves the others room.
    pub fn start(setups: Vec<ChannelSetup>, shared: Shared, stop: &Stop) -> Self {
        let (sender, states) = watch::channel(vec![State::Open; setups.len()]);
        let share = match setups.len() {
            1 => usize::MAX,
            channels => (shared.max_in_flight / (channels + 1)).max(1),
        };
        let names: Arc<[String]> = setups.iter().map(|setup| setup.name.clone()).collect();
        let fallbacks: Arc<[bool]> = setups.iter().map(|setup| setup.fallback.is_some()).collect();
        let lane = |setup: &ChannelSetup, open: Option<(ChannelId, watch::Sender<States>)>| {
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
                open,
                fallbacks: Arc::clone(&fallbacks),
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

    /// Returns when Slack accepted the request that carries the report, with the place of what it posted.
    ///
    /// # Errors
    /// When no attempt could begin by `start_by`, or Slack refuses the report in any form. At once where Slack refuses the
    /// channel, it has a fallback, and its next attempt is not due: the first report after that is the attempt.
    pub async fn post(
        &self,
        channel: ChannelId,
        report: Report,
        to: Destination,
        start_by: Instant,
    ) -> Result<Place, PostError> {
        let blocked = match &self.states.borrow()[channel.0] {
            State::Open => false,
            State::Blocked { .. } => true,
            State::Refused { until, answer } if Instant::now() < *until => {
                return Err(PostError::TargetRefused(answer.clone()));
            }
            // Nothing is held there for long.
            State::Refused { .. } => false,
        };
        let at = &self.channels[channel.0];
        let is_edit = matches!(to, Destination::Edit(_));
        let lane = match &at.edits {
            Some(edits) if is_edit => edits,
            _ => &at.posts,
        };
        let _held = Held::new(&lane.held);
        if blocked && lane.held.load(Ordering::Relaxed) > self.share {
            return Err(PostError::Full);
        }
        let item = Item { channel, report, to, start_by };
        lane.batcher.submit(item).await.unwrap_or(Err(PostError::Stopped))
    }

    /// Whether as many edits wait as Slack takes in a minute. One that only counts is not worth the wait then: a later one says
    /// the same.
    pub fn is_behind_with_edits(&self, channel: ChannelId) -> bool {
        const A_MINUTE: usize = 50;
        self.channels[channel.0].edits.as_ref().is_some_and(|edits| edits.held.load(Ordering::Relaxed) >= A_MINUTE)
    }

    /// The id of the Slack channel in which it can reply and edit; none where it can only post.
    pub fn threads_in(&self, channel: ChannelId) -> Option<&str> {
        self.channels[channel.0].id.as_deref()
    }

    /// Which channel takes the alerts of this one while Slack refuses it.
    pub fn fallback(&self, channel: ChannelId) -> Option<ChannelId> {
        self.channels[channel.0].fallback
    }

    /// Why Slack refuses the channel, while its fallback takes its alerts.
    pub fn refusal(&self, channel: ChannelId) -> Option<Answer> {
        match &self.states.borrow()[channel.0] {
            State::Refused { answer, .. } => Some(answer.clone()),
            State::Open | State::Blocked { .. } => None,
        }
    }

    /// Whether an alert for the channel can be posted now, there or by its fallback, as far as is known.
    pub fn takes(&self, channel: ChannelId) -> bool {
        let states = self.states.borrow();
        let chain = std::iter::successors(Some(channel), |channel| self.fallback(*channel));
        let first = chain.map(|channel| &states[channel.0]).find(|state| !matches!(state, State::Refused { .. }));
        first == Some(&State::Open)
    }

    /// Notices when the state of some channel changes.
    pub fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.states.clone()
    }

    /// Every channel.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> + use<> {
        (0..self.channels.len()).map(ChannelId)
    }

    /// How many alerts a blocked channel may hold, so that it leaves the others room.
    pub fn share(&self) -> usize {
        self.share
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
                channel.posts.batcher.closed().await;
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
                // Where a fallback can take its alerts, that one is open.
                State::Blocked { until } | State::Refused { until, .. } => {
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
