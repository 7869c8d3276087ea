//! The history of a service, which is printed when a promise is broken.

use std::fmt::Write;
use std::time::Instant;

use super::{Evidence, Method, QueueAction, Request, life_of};

impl Evidence<'_> {
    /// Everything that happened to a service's messages, in order, and the log lines of the processes that received one.
    pub(super) fn story(&self, index: usize, why: &str) -> String {
        let service = &self.record.plan.services[index];
        let mut story = Vec::new();
        for &message in &service.messages {
            let sent = self.record.sent.get(message).copied().unwrap_or_else(Instant::now);
            let plan = self.message(message);
            story.push((sent, format!("message {message} is sent {} times: {:?}", plan.copies, plan.expected)));
        }
        let start = story.iter().map(|(at, _)| *at).min().unwrap_or_else(Instant::now);
        let of =
            |action: &QueueAction| self.messages.get(&action.id).filter(|message| service.messages.contains(message));
        for action in &self.record.actions {
            let Some(message) = of(action) else { continue };
            let acted = if action.acted { "" } else { ", without effect" };
            let fault = action.fault.map(|fault| format!(" ({fault})")).unwrap_or_default();
            let QueueAction { by, kind, id, receive, .. } = action;
            story
                .push((action.at, format!("{by}: {kind:?} message {message} ({id}), receive {receive}{acted}{fault}")));
        }
        for post in self.record.posts.iter().filter(|post| post.mentions(&service.token)) {
            let Request { webhook, status, reply, accepted, .. } = post;
            let accepted = if *accepted { "accepted" } else { "not accepted" };
            let by = life_of(post);
            let does = match (post.method, &post.thread_ts) {
                (Method::Edit, _) => "edits in",
                (_, Some(_)) => "replies in",
                _ => "posts to",
            };
            let text = post.payload["text"].as_str().unwrap_or_default();
            let text: String = text.chars().take(60).collect();
            story.push((post.at, format!("{by}: {does} {webhook}: {accepted}, answered {status:?} {reply:?}: {text}")));
        }
        for (life, outages) in &self.outages {
            for (from, until) in outages {
                let seconds = (*until - *from).as_secs_f32();
                story.push((*from, format!("{life}: the table does not answer, for {seconds:.1} s")));
            }
        }
        // Writing to a string does not fail.
        let mut log = String::new();
        for life in &self.record.lives {
            if self.record.actions.iter().any(|action| action.by == life.number && of(action).is_some()) {
                story.push((life.ended, format!("{}: {:?}", life.number, life.end)));
                let tells = |text: &str| text.contains(&service.token) || !text.contains("settled");
                for line in life.lines.iter().filter(|line| tells(&line.text)) {
                    let _ = write!(log, "\n  {}: {}", life.number, line.text);
                }
            }
        }
        story.extend(self.record.closed.iter().map(|at| (*at, "the way to Slack is closed".to_owned())));
        story.sort_by_key(|(at, _)| *at);
        let store = if self.record.plan.has_table { "a table" } else { "memory" };
        let mut text =
            format!("{} ({why}), incidents in {store}, time in seconds, processes by number:", service.token);
        for (at, what) in story {
            let time = (at - start).as_secs_f64() - (start - at).as_secs_f64();
            let _ = write!(text, "\n  {time:8.3} {what}");
        }
        text + &log
    }
}
