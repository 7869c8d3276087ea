//! Where reports are shown: in their channel or, while Slack refuses that, in its fallback.
//!
//! While Slack refuses a channel, its fallback shows its alerts, with a line that says for which channel they are and why. They
//! stay that channel's: its routes, its incidents, its metrics. Every report is tried in the channel itself first, so that it
//! gets its alerts again as soon as Slack takes them there; [`crate::slack::Slack::post`] answers at once until the next attempt
//! is due.
//!
//! An incident remembers each place where people were told ([`Incident::root`], [`Incident::others`]). News goes to the first
//! channel that takes it, as a reply where that one has the incident, else as a new message. A repeat edits the place that was
//! told last. A recovery goes to every place that was told, and to no other, unless Slack refuses them all.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Reporter, Saying, report};
use crate::{
    alert::Alert,
    incident::{
        Incident, Root, Transition,
        log::{Accepted, Notice, Refusal},
    },
    route::{
        ChannelId,
        mention::{Mention, is_for_channel},
    },
    slack::{
        answer::{MessageRef, SlackAnswer},
        channel::{Destination, PostError, Posted},
        report::Report,
    },
};

impl Reporter {
    /// Asks Slack for what a notice says: a message of the channel, a reply and an edit, or an edit alone; there, or where its
    /// fallbacks have the incident.
    pub(super) async fn show(
        &self,
        saying: &Saying,
        channel: ChannelId,
        notice: Notice,
        mention: Option<&Mention>,
    ) -> Result<Accepted, Refusal<PostError>> {
        let whom = mention.filter(|_| notice.mentions).map(|mention| mention.whom.clone());
        let report = Report { mention: whom, ..report(&saying.alert, &notice) };
        let Notice { transition, ref incident, .. } = notice;
        let (root, start_by) = (incident.root.as_ref(), saying.start_by);
        let place = root.map(|root| self.place_of(channel, root));
        // The configuration names another Slack channel now, and the bot may have left the one before.
        if place == Some(None) {
            return Err(Refusal::RootGone { replied: false });
        }
        let place = place.flatten();
        if transition == Transition::Repeated {
            let via = place.unwrap_or(channel);
            let report = self.carried(channel, via, &report, None);
            return self.show_in(channel, via, root, transition, report, start_by).await;
        }
        if transition == Transition::Recovered {
            let beside = self.show_beside(saying, channel, incident, &report).await?;
            let via = place.unwrap_or(channel);
            let shown =
                self.show_in(channel, via, root, transition, self.carried(channel, via, &report, None), start_by).await;
            match (shown, root) {
                // Slack refuses where the root is, but somewhere else people know that it is over.
                (Err(Refusal::Failed(PostError::TargetRefused(_))), Some(root)) if beside => {
                    return Ok(Accepted::Posted(root.clone()));
                }
                (Err(Refusal::Failed(PostError::TargetRefused(_))), _) if self.slack.fallback(channel).is_some() => {}
                (shown, _) => return shown,
            }
        }
        self.show_where_taken(channel, &report, transition, Some(incident), start_by).await
    }

    /// Shows a recovery where people were told besides the root, each once; whether there was such a place. One that Slack
    /// refuses now, or that the configuration does not name any more, cannot be told.
    async fn show_beside(
        &self,
        saying: &Saying,
        channel: ChannelId,
        incident: &Incident,
        report: &Report,
    ) -> Result<bool, Refusal<PostError>> {
        let mut shown = false;
        for root in &incident.others {
            let Some(via) = self.place_of(channel, root) else { continue };
            let entry = self.shown_beside.entry((saying.identity, channel, via)).or_try_insert_with(async {
                let report = self.carried(channel, via, report, None);
                self.show_in(channel, via, Some(root), Transition::Recovered, report, saying.start_by).await.map(drop)
            });
            match entry.await.map_err(|refusal| Refusal::clone(&refusal)) {
                Ok(_) => shown = true,
                Err(Refusal::RootGone { .. } | Refusal::Failed(PostError::TargetRefused(_))) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(shown)
    }

    /// Shows a report for a channel in `via`, which may have its root: a message, a reply and an edit, or an edit alone.
    async fn show_in(
        &self,
        channel: ChannelId,
        via: ChannelId,
        root: Option<&Root>,
        transition: Transition,
        report: Report,
        start_by: Instant,
    ) -> Result<Accepted, Refusal<PostError>> {
        let post = async |to: Destination| {
            // Slack notifies nobody of an edit.
            let mention = report.mention.clone().filter(|_| !matches!(to, Destination::Edit(_)));
            Ok::<_, Refusal<_>>(self.slack.post(via, Report { mention, ..report.clone() }, to, start_by).await?)
        };
        let threads = self.slack.threads_in(via).is_some();
        let (message, is_digest) = match root.filter(|_| threads) {
            Some(Root::Message { channel, ts }) => (MessageRef { channel: channel.clone(), ts: ts.clone() }, false),
            Some(Root::Digest { channel, ts }) => (MessageRef { channel: channel.clone(), ts: ts.clone() }, true),
            // A webhook can say something new, and nothing else.
            _ if transition == Transition::Repeated => return Ok(Accepted::Nothing),
            Some(Root::Webhook | Root::FallbackWebhook { .. }) | None => {
                return Ok(Accepted::Posted(match post(Destination::Channel).await? {
                    Some(Posted { message: MessageRef { channel, ts }, is_shared: true }) => {
                        Root::Digest { channel, ts }
                    }
                    Some(Posted { message: MessageRef { channel, ts }, .. }) => Root::Message { channel, ts },
                    None if via == channel => Root::Webhook,
                    None => Root::FallbackWebhook { channel: self.name(via).to_owned() },
                }));
            }
        };
        let broadcast = transition == Transition::Reopened || report.mention.as_deref().is_some_and(is_for_channel);
        let reply = Destination::Thread { root: message.clone(), broadcast };
        let edit = Destination::Edit(message);
        match (transition, is_digest) {
            // A digest says more than this incident: it is not edited.
            (Transition::Repeated, true) => return Ok(Accepted::Nothing),
            (Transition::Repeated, false) if self.slack.is_behind_with_edits(via) => return Ok(Accepted::Nothing),
            (Transition::Repeated, false) => return post(edit).await.map(|_| Accepted::Edited),
            (_, true) => drop(post(reply).await?),
            // The end must be seen in both places; the edit first, for it can be repeated without harm.
            (Transition::Recovered | Transition::Reopened, false) => {
                post(edit).await?;
                post(reply).await?;
            }
            (_, false) => {
                post(reply).await?;
                // The thread has the news; a later event will edit the root if this does not.
                if let Err(Refusal::RootGone { .. }) = post(edit).await {
                    return Err(Refusal::RootGone { replied: true });
                }
            }
        }
        // `filter` above has left a root that can be replied to.
        root.cloned().map(Accepted::Posted).ok_or(Refusal::RootGone { replied: false })
    }

    /// Shows a report in the channel or, while Slack refuses that, in its fallback, and so on; where the incident is known, as
    /// a reply to it.
    pub(super) async fn show_where_taken(
        &self,
        channel: ChannelId,
        report: &Report,
        transition: Transition,
        incident: Option<&Incident>,
        start_by: Instant,
    ) -> Result<Accepted, Refusal<PostError>> {
        let (mut via, mut refusal) = (channel, None);
        loop {
            let root = incident.and_then(|incident| incident.root.as_ref());
            let known = incident.and_then(|incident| {
                root.into_iter().chain(&incident.others).find(|root| self.place_of(channel, root) == Some(via))
            });
            let carried = self.carried(channel, via, report, refusal.as_ref());
            let mut shown = self.show_in(channel, via, known, transition, carried.clone(), start_by).await;
            // Only of the root does the log know what to do without it.
            if known != root
                && let Err(Refusal::RootGone { replied }) = shown
            {
                let mention = carried.mention.clone().filter(|_| !replied);
                shown = self.show_in(channel, via, None, transition, Report { mention, ..carried }, start_by).await;
            }
            match (shown, self.slack.fallback(via)) {
                (Err(Refusal::Failed(PostError::TargetRefused(answer))), Some(fallback)) => {
                    refusal.get_or_insert(answer);
                    via = fallback;
                }
                (shown, _) => return shown,
            }
        }
    }

    /// The report as `via` is to show it: for another channel, with a line that names that, and why Slack refuses it, if it
    /// does.
    fn carried(&self, channel: ChannelId, via: ChannelId, report: &Report, refusal: Option<&SlackAnswer>) -> Report {
        if via == channel {
            return report.clone();
        }
        let refusal = refusal.cloned().or_else(|| self.slack.refusal(channel));
        let why = match &refusal {
            Some(SlackAnswer::TargetRefused(word)) => format!(", which Slack refuses: {word}"),
            _ => String::new(),
        };
        let line = format!("For #{}{why}", self.name(channel).trim_start_matches('#'));
        Report { alert: Arc::new(Alert { carried_for: Some(line), ..Alert::clone(&report.alert) }), ..report.clone() }
    }

    /// In which channel this root is: in the incident's own, or in one of its fallbacks. None if the configuration names it no
    /// more.
    fn place_of(&self, channel: ChannelId, root: &Root) -> Option<ChannelId> {
        let mut chain = std::iter::successors(Some(channel), |&channel| self.slack.fallback(channel));
        match root {
            Root::Webhook => Some(channel),
            Root::FallbackWebhook { channel: name } => chain.find(|&via| self.name(via) == name),
            Root::Message { channel: id, .. } | Root::Digest { channel: id, .. } => {
                let found = chain.find(|&via| self.slack.threads_in(via) == Some(id));
                // A webhook has taken the place of the bot: it says what is new as messages.
                found.or_else(|| self.slack.threads_in(channel).is_none().then_some(channel))
            }
        }
    }
}

impl From<PostError> for Refusal<PostError> {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Gone => Self::RootGone { replied: false },
            error => Self::Failed(error),
        }
    }
}
