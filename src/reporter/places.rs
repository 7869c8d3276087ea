//! Where reports are shown: in their channel or, while Slack refuses that channel, in its fallback.
//!
//! While Slack refuses a channel, its fallback shows its alerts, with a line that names the channel and Slack's error code. The
//! alerts still use the channel's own routes, incidents and metrics. Every report is tried in the channel itself first, so that
//! the channel receives its alerts again as soon as Slack accepts them. Until the next attempt is due,
//! [`crate::slack::Slack::post`] fails at once.
//!
//! An incident records each place where it was reported ([`Incident::root`], [`Incident::others`]). News goes to the first channel
//! that accepts it: as a reply if that channel has the incident, else as a new message. A repeat edits the latest place. A
//! recovery goes to every place where the incident was reported, and to no other, unless Slack refuses them all.

use std::sync::Arc;

use tokio::time::Instant;

use super::{AlertToReport, Reporter, report};
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
    /// Sends a notice to Slack as a message, as a reply and an edit, or as an edit alone: in the channel, or in the fallback that has
    /// the incident.
    pub(super) async fn show(
        &self,
        to_report: &AlertToReport,
        channel: ChannelId,
        notice: Notice,
        mention: Option<&Mention>,
    ) -> Result<Accepted, Refusal<PostError>> {
        let whom = mention.filter(|_| notice.mentions).map(|mention| mention.whom.clone());
        let report = Report { mention: whom, ..report(&to_report.alert, &notice) };
        let Notice { transition, ref incident, .. } = notice;
        let (root, start_by) = (incident.root.as_ref(), to_report.start_by);
        let place = root.map(|root| self.place_of(channel, root));
        // The configuration now names another Slack channel, and the bot may have left the previous one.
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
            let shown_elsewhere = self.show_in_other_places(to_report, channel, incident, &report).await?;
            let via = place.unwrap_or(channel);
            let shown =
                self.show_in(channel, via, root, transition, self.carried(channel, via, &report, None), start_by).await;
            match (shown, root) {
                // Slack refuses the root's channel, but another place shows the recovery.
                (Err(Refusal::Failed(PostError::TargetRefused(_))), Some(root)) if shown_elsewhere => {
                    return Ok(Accepted::Posted(root.clone()));
                }
                (Err(Refusal::Failed(PostError::TargetRefused(_))), _) if self.slack.fallback(channel).is_some() => {}
                (shown, _) => return shown,
            }
        }
        self.show_where_taken(channel, &report, transition, Some(incident), start_by).await
    }

    /// Shows a recovery once in each place where the incident was reported, except the root. Returns whether there was such a
    /// place. Skips a place that Slack refuses now, or that the configuration no longer names.
    async fn show_in_other_places(
        &self,
        to_report: &AlertToReport,
        channel: ChannelId,
        incident: &Incident,
        report: &Report,
    ) -> Result<bool, Refusal<PostError>> {
        let mut shown = false;
        for root in &incident.others {
            let Some(via) = self.place_of(channel, root) else { continue };
            let entry =
                self.shown_in_other_places.entry((to_report.identity, channel, via)).or_try_insert_with(async {
                    let report = self.carried(channel, via, report, None);
                    self.show_in(channel, via, Some(root), Transition::Recovered, report, to_report.start_by)
                        .await
                        .map(drop)
                });
            match entry.await.map_err(|refusal| Refusal::clone(&refusal)) {
                Ok(_) => shown = true,
                Err(Refusal::RootGone { .. } | Refusal::Failed(PostError::TargetRefused(_))) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(shown)
    }

    /// Shows a report for a channel in `via`: as a message or, if `via` has the root, as a reply and an edit, or as an edit alone.
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
            // Slack sends no notification for an edit.
            let mention = report.mention.clone().filter(|_| !matches!(to, Destination::Edit(_)));
            Ok::<_, Refusal<_>>(self.slack.post(via, Report { mention, ..report.clone() }, to, start_by).await?)
        };
        let threads = self.slack.threads_in(via).is_some();
        let (message, is_digest) = match root.filter(|_| threads) {
            Some(Root::Message { channel, ts }) => (MessageRef { channel: channel.clone(), ts: ts.clone() }, false),
            Some(Root::Digest { channel, ts }) => (MessageRef { channel: channel.clone(), ts: ts.clone() }, true),
            // A webhook can only post new messages.
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
            // A digest also shows other incidents, so it is not edited.
            (Transition::Repeated, true) => return Ok(Accepted::Nothing),
            (Transition::Repeated, false) if self.slack.is_behind_with_edits(via) => return Ok(Accepted::Nothing),
            (Transition::Repeated, false) => return post(edit).await.map(|_| Accepted::Edited),
            (_, true) => drop(post(reply).await?),
            // Both the root and the thread must show it. The edit comes first, because it can be repeated without harm.
            (Transition::Recovered | Transition::Reopened, false) => {
                post(edit).await?;
                post(reply).await?;
            }
            (_, false) => {
                post(reply).await?;
                // The thread shows the news. If this edit fails, a later event edits the root.
                if let Err(Refusal::RootGone { .. }) = post(edit).await {
                    return Err(Refusal::RootGone { replied: true });
                }
            }
        }
        // The `match` above returned unless there is a root.
        root.cloned().map(Accepted::Posted).ok_or(Refusal::RootGone { replied: false })
    }

    /// Shows a report in the channel or, while Slack refuses that, in the first of its fallbacks that Slack accepts. If that channel
    /// has the incident, the report is a reply.
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
            // The log handles only a missing root, so a missing other place is handled here.
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

    /// The report as `via` shows it. If it is for another channel, it has a line that names that channel and Slack's error code.
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

    /// The channel of this root: the incident's own channel, or one of its fallbacks. `None` if the configuration no longer names it.
    fn place_of(&self, channel: ChannelId, root: &Root) -> Option<ChannelId> {
        let mut chain = std::iter::successors(Some(channel), |&channel| self.slack.fallback(channel));
        match root {
            Root::Webhook => Some(channel),
            Root::FallbackWebhook { channel: name } => chain.find(|&via| self.name(via) == name),
            Root::Message { channel: id, .. } | Root::Digest { channel: id, .. } => {
                let found = chain.find(|&via| self.slack.threads_in(via) == Some(id));
                // A webhook has replaced the bot: it posts news as messages.
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
