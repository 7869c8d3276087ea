//! Waiting and failures, in paused time. Slack is a list of posted notices.

mod replicas;

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    alert::{Rollout, Severity, Subject},
    incident::store::memory::Memory,
};
use Transition::*;

const POLICY: Policy = Policy {
    remind_after: Duration::from_secs(3600),
    quiet_for: Duration::from_secs(600),
    reopen_within: Duration::from_secs(900),
    mention_from: Some(Severity::Critical),
};

/// A wall clock that follows tokio's time.
fn clock() -> impl Fn() -> OffsetDateTime + Clone + Send + Sync {
    let start = Instant::now();
    move || OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000) + start.elapsed()
}

fn key() -> Key {
    Key::new("ops", "123456789012", "eu-west-1", "prod", Subject::Service, "checkout")
}

fn signal(id: &str, minute: i64, kind: Kind) -> Signal {
    Signal {
        id: Id::of(id),
        time: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000) + time::Duration::minutes(minute),
        severity: Severity::Warning,
        cause: None,
        kind,
        deployment: None,
        failed_task: Some(Id::of(id)),
        noted_recovery: None,
    }
}

fn problem(id: &str) -> Signal {
    signal(id, 0, Kind::Problem)
}

fn recovery(id: &str, minute: i64) -> Signal {
    signal(id, minute, Kind::Recovery { confirmed: Some(true) })
}

/// A Slack channel's messages and answers.
#[derive(Default)]
struct Slack {
    posts: Mutex<Vec<Notice>>,
    /// The next answers. After them, everything is accepted.
    answers: Mutex<Vec<Refusal<&'static str>>>,
    /// If present, each post waits for a permit.
    held: Option<Semaphore>,
    asked: AtomicUsize,
}

impl Slack {
    /// Answers each post after a call of `go_on`.
    fn held() -> Self {
        Self { held: Some(Semaphore::new(0)), ..Self::default() }
    }

    fn refusing(refusals: &[Refusal<&'static str>]) -> Self {
        Self { answers: Mutex::new(refusals.to_vec()), ..Self::default() }
    }

    fn go_on(&self) {
        self.held.as_ref().unwrap().add_permits(1);
    }

    async fn take(&self, notice: Notice) -> Result<Accepted, Refusal<&'static str>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(held) = self.held.as_ref().filter(|_| notice.transition.is_reported()) {
            held.acquire().await.unwrap().forget();
        }
        {
            let mut answers = self.answers.lock();
            if !answers.is_empty() {
                return Err(answers.remove(0));
            }
        }
        self.posts.lock().push(notice.clone());
        let own = Root::Message { channel: "C1".into(), ts: number.to_string() };
        Ok(if notice.transition.is_reported() {
            Accepted::Posted(notice.incident.root.clone().unwrap_or(own))
        } else {
            Accepted::Edited
        })
    }

    fn transitions(&self) -> Vec<Transition> {
        self.posts.lock().iter().map(|notice| notice.transition).collect()
    }

    fn last(&self) -> Notice {
        self.posts.lock().last().unwrap().clone()
    }

    async fn asked(&self, count: usize) {
        while self.asked.load(Ordering::SeqCst) < count {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn log() -> (NotificationLog, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    (NotificationLog::with_clock(Store::Memory(memory.clone()), usize::MAX, clock()), memory)
}

async fn report(log: &NotificationLog, slack: &Slack, signal: Signal) -> Result<Outcome, Failure<&'static str>> {
    let start_by = Instant::now() + Duration::from_secs(100);
    log.report(&key(), signal, &POLICY, start_by, |notice| slack.take(notice)).await
}

const fn reported(transition: Transition) -> Result<Outcome, Failure<&'static str>> {
    Ok(Outcome::Reported(transition))
}

#[tokio::test(start_paused = true)]
async fn an_incident_from_its_first_alert_to_its_recovery() {
    let ((log, _), slack) = (log(), Slack::default());
    assert_eq!(report(&log, &slack, problem("1")).await, reported(Opened));
    assert_eq!(report(&log, &slack, problem("2")).await, Ok(Outcome::Edited));
    assert_eq!(report(&log, &slack, problem("2")).await, Ok(Outcome::Duplicate));
    assert_eq!(report(&log, &slack, Signal { cause: Some("oom"), ..problem("3") }).await, reported(News));
    assert_eq!(log.open_by_channel(), HashMap::from([("ops".to_owned(), 1)]));
    assert_eq!(report(&log, &slack, recovery("4", 5)).await, reported(Recovered));
    assert_eq!(report(&log, &slack, recovery("5", 6)).await, Ok(Outcome::NoIncident));
    assert_eq!(report(&log, &slack, signal("6", 7, Kind::Problem)).await, reported(Reopened));
    assert_eq!(slack.transitions(), [Opened, Repeated, News, Recovered, Reopened]);
    let incident = slack.last().incident;
    assert_eq!((incident.events, incident.failed_tasks), (4, 4));
    assert_eq!(incident.root, Some(Root::Message { channel: "C1".into(), ts: "0".into() }));
}

#[tokio::test(start_paused = true)]
async fn alerts_wait_while_the_root_is_posted_and_are_then_folded() {
    let ((log, _), slack) = (log(), Slack::held());
    let alerts = (0..24).map(|task| report(&log, &slack, problem(&task.to_string())));
    let (outcomes, ()) = tokio::join!(join_all(alerts), async {
        slack.asked(1).await;
        // No other alert posts, and none has ended.
        sleep(Duration::from_secs(60)).await;
        assert_eq!(slack.asked.load(Ordering::SeqCst), 1);
        slack.go_on();
    });
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == reported(Opened)).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Ok(Outcome::Edited)).count(), 23);
    assert_eq!(slack.last().incident.failed_tasks, 24);
}

#[tokio::test(start_paused = true)]
async fn waiting_alerts_share_a_failure_and_the_next_alert_tries() {
    let ((log, memory), slack) = (log(), Slack::held());
    slack.answers.lock().push(Refusal::Failed("channel_not_found"));
    let (first, second, ()) =
        tokio::join!(report(&log, &slack, problem("1")), report(&log, &slack, problem("2")), async {
            slack.asked(1).await;
            slack.go_on();
        });
    assert_eq!(first, Err(Failure::Post("channel_not_found")));
    assert_eq!(second, Err(Failure::Joined("channel_not_found".into())));
    // Nothing is recorded, and no alert waits.
    assert_eq!(memory.load(&key()).0.incident, None);
    slack.go_on();
    assert_eq!(report(&log, &slack, problem("2")).await, reported(Opened));
    assert_eq!(slack.last().incident.events, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recorded_before_the_answer() {
    let ((log, memory), slack) = (log(), Slack::held());
    let ((), outcome) = tokio::join!(
        async {
            slack.asked(1).await;
            assert_eq!(memory.load(&key()).0.incident, None);
            slack.go_on();
        },
        report(&log, &slack, problem("1"))
    );
    assert_eq!(outcome, reported(Opened));
    assert!(memory.load(&key()).0.incident.is_some_and(|incident| incident.root.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_does_not_wait_for_news() {
    let ((log, _), slack) = (log(), Slack::held());
    slack.go_on();
    report(&log, &slack, problem("1")).await.unwrap();
    let mut news = Box::pin(report(&log, &slack, Signal { cause: Some("oom"), ..problem("2") }));
    assert!(futures_util::poll!(&mut news).is_pending());
    assert_eq!(report(&log, &slack, problem("3")).await, Ok(Outcome::Edited));
    slack.go_on();
    assert_eq!(news.await, reported(News));
    // Both are counted.
    assert_eq!(report(&log, &slack, problem("4")).await, Ok(Outcome::Edited));
    let incident = slack.last().incident;
    assert_eq!((incident.events, incident.causes.as_slice()), (4, &["oom".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_post_does_not_block_the_next_one() {
    let ((log, _), slack) = (log(), Slack::held());
    let given_up = tokio::time::timeout(Duration::from_secs(5), report(&log, &slack, problem("1"))).await;
    assert!(given_up.is_err());
    slack.go_on();
    assert_eq!(report(&log, &slack, problem("2")).await, reported(Opened));
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_waits_too_long_is_put_back() {
    let ((log, _), slack) = (log(), Slack::held());
    let begun = Instant::now();
    let first = report(&log, &slack, problem("1"));
    tokio::pin!(first);
    assert!(futures_util::poll!(&mut first).is_pending());
    let soon = Instant::now() + Duration::from_secs(30);
    let second = log.report(&key(), problem("2"), &POLICY, soon, |notice| slack.take(notice)).await;
    assert_eq!(second, Err(Failure::Busy));
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_waiting_alerts_of_a_channel_is_limited() {
    let (mut log, _) = log();
    log.share = 2;
    let slack = Slack::held();
    let alerts = (0..10).map(|task| report(&log, &slack, problem(&task.to_string())));
    let (outcomes, ()) = tokio::join!(join_all(alerts), async {
        slack.asked(1).await;
        sleep(Duration::from_secs(5)).await;
        slack.go_on();
    });
    let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count();
    let counts = [reported(Opened), Ok(Outcome::Edited), Err(Failure::Busy)].map(count);
    assert_eq!(counts, [1, 2, 7]);
    // No alert waits any more.
    let (outcomes, ()) = tokio::join!(
        join_all(["a", "b"].map(|id| report(&log, &slack, Signal { cause: Some("oom"), ..problem(id) }))),
        async { slack.go_on() }
    );
    assert_eq!(outcomes, [reported(News), Ok(Outcome::Edited)]);
}

#[tokio::test]
async fn a_report_may_run_in_a_task_of_its_own() {
    let (log, slack) = (Arc::new(log().0), Arc::new(Slack::default()));
    let outcome = tokio::spawn(async move { report(&log, &slack, problem("1")).await });
    assert_eq!(outcome.await.unwrap(), reported(Opened));
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_recovery_is_put_back_twice_then_folded() {
    let ((log, _), slack) = (log(), Slack::default());
    report(&log, &slack, problem("1")).await.unwrap();
    let doubtful = || signal("2", 5, Kind::Recovery { confirmed: Some(false) });
    for _ in 0..2 {
        assert_eq!(report(&log, &slack, doubtful()).await, Ok(Outcome::Unconfirmed));
    }
    assert_eq!(report(&log, &slack, doubtful()).await, Ok(Outcome::Edited));
    assert_eq!(log.open_in(&doubtful(), &[key()]).await, [true]);
}

#[tokio::test(start_paused = true)]
async fn an_incident_whose_root_is_gone_is_opened_again() {
    let (log, _) = log();
    let opened = Slack::default();
    report(&log, &opened, problem("1")).await.unwrap();
    // News finds the root missing …
    let slack = Slack::refusing(&[Refusal::RootGone { replied: false }]);
    slack.asked.store(100, Ordering::SeqCst);
    assert_eq!(report(&log, &slack, Signal { cause: Some("oom"), ..problem("2") }).await, reported(Opened));
    assert_eq!(slack.last().incident.events, 2);
    // … or an edit does, whose event is already counted.
    slack.answers.lock().push(Refusal::RootGone { replied: false });
    assert_eq!(report(&log, &slack, problem("3")).await, reported(Opened));
    assert_eq!(slack.last().incident.events, 3);
    assert_eq!(report(&log, &slack, problem("4")).await, Ok(Outcome::Edited));
    assert_eq!(slack.last().incident.root, Some(Root::Message { channel: "C1".into(), ts: "103".into() }));
    // Or the recovery does: then its message is the only one.
    slack.answers.lock().push(Refusal::RootGone { replied: false });
    assert_eq!(report(&log, &slack, recovery("5", 5)).await, reported(Recovered));
}

#[tokio::test(start_paused = true)]
async fn without_a_new_root_no_alert_is_folded() {
    let (log, _) = log();
    report(&log, &Slack::default(), problem("1")).await.unwrap();
    let slack = Slack::refusing(&[Refusal::RootGone { replied: false }, Refusal::Failed("is_archived")]);
    assert_eq!(report(&log, &slack, problem("2")).await, Err(Failure::Post("is_archived")));
    assert_eq!(report(&log, &slack, problem("2")).await, reported(Opened));
}

#[tokio::test(start_paused = true)]
async fn a_failed_edit_does_not_defer_the_alert() {
    let ((log, _), slack) = (log(), Slack::default());
    report(&log, &slack, problem("1")).await.unwrap();
    slack.answers.lock().push(Refusal::Failed("ratelimited"));
    assert_eq!(report(&log, &slack, problem("2")).await, Ok(Outcome::Folded));
    assert_eq!(report(&log, &slack, problem("2")).await, Ok(Outcome::Duplicate));
    assert_eq!(report(&log, &slack, problem("3")).await, Ok(Outcome::Edited));
    assert_eq!(slack.last().incident.events, 3);
}

#[test]
fn every_transition_is_a_label() {
    let labels = Transition::ALL.map(Transition::as_str);
    assert_eq!(labels, metrics::TRANSITIONS);
}
