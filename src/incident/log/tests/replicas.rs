//! Two logs on one store act as two replicas. Also the state after a crash.

use super::*;

fn replicas() -> (NotificationLog, NotificationLog, Arc<Memory>) {
    let (memory, clock) = (Arc::new(Memory::default()), clock());
    let log = || NotificationLog::with_clock(Store::Memory(memory.clone()), usize::MAX, clock.clone());
    (log(), log(), memory.clone())
}

#[tokio::test(start_paused = true)]
async fn only_one_of_thirty_alerts_at_two_replicas_opens_the_incident() {
    let ((one, other, _), slack) = (replicas(), Slack::held());
    let alerts = (0..30).map(|task| report([&one, &other][task % 2], &slack, problem(&task.to_string())));
    let (outcomes, ()) = tokio::join!(join_all(alerts), async {
        slack.asked(1).await;
        // Longer than a lease: the holder extends it.
        sleep(LEASE * 3).await;
        slack.go_on();
    });
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == reported(Opened)).count(), 1);
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Reported(_) | Outcome::Edited))),
        "{outcomes:?}"
    );
    assert_eq!(slack.transitions().iter().filter(|transition| transition.is_reported()).count(), 1);
    report(&other, &slack, problem("last")).await.unwrap();
    assert_eq!(slack.last().incident.events, 31);
}

#[tokio::test(start_paused = true)]
async fn news_is_reported_by_one_replica() {
    let ((one, other, _), slack) = (replicas(), Slack::default());
    report(&one, &slack, problem("1")).await.unwrap();
    let news = |id: &str| Signal { deployment: Some((Id::of("d"), Rollout::Failed)), ..problem(id) };
    let (first, second) = tokio::join!(report(&one, &slack, news("2")), report(&other, &slack, news("3")));
    assert_eq!((first, second), (reported(News), Ok(Outcome::Edited)));
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_between_the_post_and_its_record_another_posts_again() {
    let ((one, other, _), slack) = (replicas(), Slack::held());
    {
        let crashed = report(&one, &slack, problem("1"));
        tokio::pin!(crashed);
        assert!(futures_util::poll!(&mut crashed).is_pending());
    }
    // Slack has it, but no log has recorded it.
    let begun = Instant::now();
    slack.go_on();
    assert_eq!(report(&other, &slack, problem("1")).await, reported(Opened));
    let waited = begun.elapsed();
    assert!(waited >= LEASE && waited < LEASE + LEASE_POLL * 2, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_post_releases_the_lease_at_once() {
    let ((one, other, _), refusing, slack) =
        (replicas(), Slack::refusing(&[Refusal::Failed("invalid_auth")]), Slack::default());
    assert!(report(&one, &refusing, problem("1")).await.is_err());
    let begun = Instant::now();
    assert_eq!(report(&other, &slack, problem("1")).await, reported(Opened));
    assert!(begun.elapsed() < LEASE_POLL);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_waits_for_the_report_of_the_problem() {
    for two in [false, true] {
        let ((one, other, _), slack) = (replicas(), Slack::held());
        let recovering = if two { &other } else { &one };
        let (opened, recovered, ()) = tokio::join!(
            report(&one, &slack, problem("1")),
            async {
                slack.asked(1).await;
                let signal = recovery("2", 5);
                assert_eq!(recovering.open_in(&signal, &[key()]).await, [true]);
                report(recovering, &slack, signal).await
            },
            async {
                slack.asked(1).await;
                sleep(Duration::from_secs(20)).await;
                slack.go_on();
                slack.go_on();
            }
        );
        assert_eq!((opened, recovered), (reported(Opened), reported(Recovered)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_problem_waits_for_the_report_of_the_recovery() {
    for two in [false, true] {
        let ((one, other, _), slack) = (replicas(), Slack::held());
        let later = if two { &other } else { &one };
        slack.go_on();
        report(&one, &slack, problem("1")).await.unwrap();
        let (recovered, reopened, older, ()) = tokio::join!(
            report(&one, &slack, recovery("2", 5)),
            async {
                slack.asked(2).await;
                report(later, &slack, signal("3", 6, Kind::Problem)).await
            },
            async {
                slack.asked(2).await;
                report(later, &slack, signal("4", 4, Kind::Problem)).await
            },
            async {
                slack.asked(2).await;
                sleep(Duration::from_secs(20)).await;
                slack.go_on();
                slack.go_on();
            }
        );
        assert_eq!((recovered, reopened, older), (reported(Recovered), reported(Reopened), Ok(Outcome::Edited)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_problem_that_arrives_after_its_recovery_is_shown_as_recovered() {
    let ((one, other, _), slack) = (replicas(), Slack::default());
    assert_eq!(one.open_in(&recovery("2", 5), &[key()]).await, [false]);
    assert_eq!(report(&one, &slack, recovery("2", 5)).await, Ok(Outcome::NoIncident));
    assert_eq!(report(&other, &slack, problem("1")).await, reported(Opened));
    assert!(!slack.last().incident.is_open());
    // A problem after the recovery reopens it, even if the recovery was noted while the incident had already recovered.
    assert_eq!(report(&one, &slack, signal("3", 6, Kind::Problem)).await, reported(Reopened));
    assert_eq!(report(&one, &slack, recovery("4", 7)).await, reported(Recovered));
    one.open_in(&recovery("5", 9), &[key()]).await;
    assert_eq!(report(&other, &slack, signal("6", 8, Kind::Problem)).await, Ok(Outcome::Edited));
    assert!(!slack.last().incident.is_open());
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_waited_while_another_replica_reported_the_recovery_shows_it() {
    let ((one, other, _), slack) = (replicas(), Slack::default());
    report(&one, &slack, problem("1")).await.unwrap();
    let (key, start_by) = (key(), Instant::now() + Duration::from_secs(100));
    let (waited, recovered) = tokio::join!(
        one.report(&key, problem("2"), &POLICY, start_by, async |notice: Notice| {
            if notice.incident.is_open() {
                sleep(Duration::from_secs(5)).await;
            }
            slack.take(notice).await
        }),
        async {
            sleep(Duration::from_secs(1)).await;
            report(&other, &slack, recovery("3", 5)).await
        }
    );
    assert_eq!((waited, recovered), (Ok(Outcome::Edited), reported(Recovered)));
    assert_eq!(slack.transitions(), [Opened, Recovered, Repeated, Repeated]);
    let last = slack.last().incident;
    assert!(!last.is_open() && last.events == 2, "{last:?}");
}
