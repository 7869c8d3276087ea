//! Moves messages to the queue by sending them there. SQS's own move task serves only dead-letter queues of queues; EventBridge sends the
//! events that it could not deliver to a queue that is not one.
//!
//! A message is deleted only after the queue has accepted its copy. If the program is killed in between, nothing is lost, but a message
//! may be in both queues.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, anyhow, bail};
use backon::Retryable;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use super::{HIDDEN, Queues, WAIT, announce, count, say, show_progress};
use crate::{
    app::{self, Misconfigured},
    config::Config,
    shutdown::StopSignal,
    signals::Signals,
    sqs::{BATCH, Message, Receipt, SqsError, send::BATCH_BYTES},
};

/// Moves everything in the queue at `url` to the main queue, and shows the progress. A signal ends the move after the current batch. With
/// `dry_run`, only prints what it would do. Returns `false` if it was interrupted.
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
    let queues = Queues::open(config, Some(url)).await?;
    if queues.failed_arn == queues.main_arn {
        bail!(Misconfigured(format!(
            "{} is the queue itself; name the queue of undelivered events",
            queues.failed_arn
        )));
    }
    if !announce(&queues, dry_run, max_rate) {
        return Ok(true);
    }
    let mut stop = signals.drain(Duration::ZERO, "stopping after this batch; what was moved stays moved");
    let mut mover = Mover { queues: &queues, moved: 0, copied: None, kept: HashMap::new(), shown: Instant::now() };
    let ended = mover.run(max_rate, &mut stop).await;
    let (moved, kept) = (mover.progress(), mover.put_back_kept().await);
    show_progress(&moved, true);
    if let Some((many, error)) = mover.copied {
        let what = format!(
            "{moved}; {many} of them could not be deleted from {}, so they are in both queues",
            queues.failed_arn
        );
        return Err(move_error(&queues, &error, url).context(what));
    }
    let end = ended.map_err(|error| move_error(&queues, &error, url))?;
    if let Some((kept, error)) = kept {
        return Err(anyhow!(error.chain())
            .context(format!("{moved}; {kept} could not be sent, still in {}", queues.failed_arn)));
    }
    match end {
        End::Empty => say(format_args!("done: {moved}")),
        End::Stopped => say(format_args!("stopped: {moved}; the rest is still in {}", queues.failed_arn)),
    }
    Ok(matches!(end, End::Empty))
}

/// The error of a failed request, with the queue that it was sent to.
fn move_error(queues: &Queues, error: &SqsError, url: &str) -> anyhow::Error {
    app::queue_error(error, if error.is_from_send() { &queues.main_arn } else { url })
}

enum End {
    Empty,
    Stopped,
}

struct Mover<'a> {
    queues: &'a Queues,
    moved: u64,
    /// How many messages were sent and could not be deleted, and why not.
    copied: Option<(usize, SqsError)>,
    /// The messages that the queue did not accept, by id, and why.
    kept: HashMap<String, (Receipt, SqsError)>,
    shown: Instant,
}

impl Mover<'_> {
    async fn run(&mut self, max_rate: Option<u32>, stop: &mut StopSignal) -> Result<End, SqsError> {
        let begun = Instant::now();
        let batch_size = max_rate.map_or(BATCH, |rate| BATCH.min(rate as usize));
        while stop.borrow().is_none() {
            let received = self.queues.failed.receive(batch_size, HIDDEN, WAIT).await?;
            let mut messages = Vec::new();
            for message in received {
                // The message became visible again, so its first receipt is no longer valid.
                match self.kept.get_mut(&message.id) {
                    Some((receipt, _)) => *receipt = message.receipt,
                    None => messages.push(message),
                }
            }
            if messages.is_empty() {
                return Ok(End::Empty);
            }
            for batch in batches(messages) {
                self.move_batch(batch).await?;
            }
            if self.shown.elapsed() >= Duration::from_secs(1) {
                self.shown = Instant::now();
                show_progress(&self.progress(), false);
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
        let send = || self.queues.main.send(&bodies);
        let answers = match send.retry(app::start_retries()).when(|error| error.retryable).await {
            Ok(answers) => answers,
            Err(error) => {
                self.kept.extend(messages.into_iter().map(|message| (message.id, (message.receipt, error.clone()))));
                return Err(error);
            }
        };
        let mut accepted = Vec::new();
        for (message, answer) in messages.into_iter().zip(answers) {
            match answer {
                Ok(()) => accepted.push(message.receipt),
                Err(error) => drop(self.kept.insert(message.id, (message.receipt, error))),
            }
        }
        self.moved += accepted.len() as u64;
        let deletes = join_all(accepted.into_iter().map(|receipt| self.queues.failed.delete(receipt))).await;
        let failed: Vec<_> = deletes.into_iter().filter_map(Result::err).collect();
        let Some(error) = failed.first().cloned() else { return Ok(()) };
        // If the program continued, it would copy every message without deleting it.
        self.copied = Some((failed.len(), error.clone()));
        Err(error)
    }

    /// Makes the kept messages visible again. Returns how many there are, and why the first could not be sent.
    async fn put_back_kept(&mut self) -> Option<(String, SqsError)> {
        let kept: Vec<_> = self.kept.drain().map(|(_, kept)| kept).collect();
        let many = count(kept.len() as u64, "message");
        let error = kept.first().map(|(_, error)| error.clone());
        // If this fails, the messages become visible when their visibility timeout ends.
        join_all(kept.iter().map(|(receipt, _)| self.queues.failed.put_back(receipt, Duration::ZERO))).await;
        Some((many, error?))
    }

    fn progress(&self) -> String {
        format!("{} of about {} moved", self.moved, self.queues.held.visible.max(self.moved))
    }
}

/// Splits messages into batches that one request can send.
fn batches(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut batches: Vec<Vec<Message>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        bytes += message.body.len();
        match batches.last_mut() {
            Some(batch) if bytes <= BATCH_BYTES => batch.push(message),
            _ => {
                bytes = message.body.len();
                batches.push(vec![message]);
            }
        }
    }
    batches
}
