//! Moves messages to the queue by sending them there: for a queue that SQS's own move task does not serve, because it is no
//! queue's dead-letter queue. EventBridge fills such a queue with the events that it could not deliver.
//!
//! A message is deleted only after the queue has taken its copy. Whatever happens between the two, nothing is lost, and at worst a
//! message is in both queues.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, anyhow, bail};
use backon::Retryable;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::{HIDDEN, Source, WAIT, announce, count, say, show};
use crate::{
    app::{self, Misconfigured},
    config::Config,
    shutdown::Stop,
    signals::Signals,
    sqs::{BATCH, Message, Receipt, SqsError, send::BATCH_BYTES},
};

/// Moves everything in the queue at `url` to the main queue, and shows the progress. A signal ends it after the batch under way.
/// With `dry_run`, only says what it would do. `false` when it was interrupted.
///
/// # Errors
/// When a queue cannot be used, or not everything could be moved.
pub async fn resend(
    config: &Config,
    url: &str,
    dry_run: bool,
    max_rate: Option<u32>,
    signals: &Signals,
) -> Result<bool> {
    let source = Source::open(config, Some(url)).await?;
    if source.arn == source.main_arn {
        bail!(Misconfigured(format!("{} is the queue itself; name the queue of undelivered events", source.arn)));
    }
    if !announce(&source, dry_run, max_rate) {
        return Ok(true);
    }
    let mut stop = signals.drain(Duration::ZERO, "stopping after this batch; what was moved stays moved");
    let mut resend = Resend { source: &source, moved: 0, copied: None, kept: HashMap::new(), shown: Instant::now() };
    let ended = resend.run(max_rate, &mut stop).await;
    let (moved, kept) = (resend.progress(), resend.give_back().await);
    show(&moved, true);
    if let Some((many, error)) = resend.copied {
        let what =
            format!("{moved}; {many} of them could not be deleted from {}, so they are in both queues", source.arn);
        return Err(explain(&source, &error, url).context(what));
    }
    let end = ended.map_err(|error| explain(&source, &error, url))?;
    if let Some((kept, error)) = kept {
        return Err(
            anyhow!(error.chain()).context(format!("{moved}; {kept} could not be sent, still in {}", source.arn))
        );
    }
    match end {
        End::Empty => say(format_args!("done: {moved}")),
        End::Stopped => say(format_args!("stopped: {moved}; the rest is still in {}", source.arn)),
    }
    Ok(matches!(end, End::Empty))
}

/// By which queue a request failed.
fn explain(source: &Source, error: &SqsError, url: &str) -> anyhow::Error {
    app::explain(error, if error.is_of_send() { &source.main_arn } else { url })
}

enum End {
    Empty,
    Stopped,
}

struct Resend<'a> {
    source: &'a Source,
    moved: u64,
    /// How many messages were sent and could not be deleted, and why not.
    copied: Option<(usize, SqsError)>,
    /// By their ids, what the queue did not take and why.
    kept: HashMap<String, (Receipt, SqsError)>,
    shown: Instant,
}

impl Resend<'_> {
    async fn run(&mut self, max_rate: Option<u32>, stop: &mut Stop) -> Result<End, SqsError> {
        let begun = Instant::now();
        let batch = max_rate.map_or(BATCH, |rate| BATCH.min(rate as usize));
        while stop.borrow().is_none() {
            let received = self.source.letters.receive(batch, HIDDEN, WAIT).await?;
            let mut messages = Vec::new();
            for message in received {
                // It became visible again, and its first receipt is void.
                match self.kept.get_mut(&message.id) {
                    Some((receipt, _)) => *receipt = message.receipt,
                    None => messages.push(message),
                }
            }
            if messages.is_empty() {
                return Ok(End::Empty);
            }
            for part in parts(messages) {
                self.move_batch(part).await?;
            }
            if self.shown.elapsed() >= Duration::from_secs(1) {
                self.shown = Instant::now();
                show(&self.progress(), false);
            }
            if let Some(rate) = max_rate {
                let due = begun + Duration::from_secs_f64(self.moved as f64 / f64::from(rate));
                tokio::select! {
                    () = sleep_until(due) => {}
                    _ = stop.wait_for(Option::is_some) => {}
                }
            }
        }
        Ok(End::Stopped)
    }

    async fn move_batch(&mut self, messages: Vec<Message>) -> Result<(), SqsError> {
        let bodies: Vec<_> = messages.iter().map(|message| message.body.as_str()).collect();
        let send = || self.source.main.send(&bodies);
        let answers = match send.retry(app::start_retries()).when(|error| error.retryable).await {
            Ok(answers) => answers,
            Err(error) => {
                self.kept.extend(messages.into_iter().map(|message| (message.id, (message.receipt, error.clone()))));
                return Err(error);
            }
        };
        let mut taken = Vec::new();
        for (message, answer) in messages.into_iter().zip(answers) {
            match answer {
                Ok(()) => taken.push(message.receipt),
                Err(error) => drop(self.kept.insert(message.id, (message.receipt, error))),
            }
        }
        self.moved += taken.len() as u64;
        let deletes = join_all(taken.into_iter().map(|receipt| self.source.letters.delete(receipt))).await;
        let failed: Vec<_> = deletes.into_iter().filter_map(Result::err).collect();
        let Some(error) = failed.first().cloned() else { return Ok(()) };
        // Going on would make a copy of everything.
        self.copied = Some((failed.len(), error.clone()));
        Err(error)
    }

    /// Makes what is kept visible again; how many messages that are, and why the first could not be sent.
    async fn give_back(&mut self) -> Option<(String, SqsError)> {
        let kept: Vec<_> = self.kept.drain().map(|(_, kept)| kept).collect();
        let many = count(kept.len() as u64, "message");
        let error = kept.first().map(|(_, error)| error.clone());
        // What fails here is visible again when it was hidden for long enough.
        join_all(kept.iter().map(|(receipt, _)| self.source.letters.put_back(receipt, Duration::ZERO))).await;
        Some((many, error?))
    }

    fn progress(&self) -> String {
        format!("{} of about {} moved", self.moved, self.source.held.visible.max(self.moved))
    }
}

/// What may be sent together.
fn parts(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut parts: Vec<Vec<Message>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.body.len();
        match parts.last_mut() {
            Some(part) if bytes <= BATCH_BYTES => part.push(message),
            _ => {
                bytes = message.body.len();
                parts.push(vec![message]);
            }
        }
    }
    parts
}
