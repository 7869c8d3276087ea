//! The incidents table, through the real SDK over HTTP: a table that works, and one that is slow, throttled or missing, or whose answers are
//! lost.

use std::{
    cell::RefCell,
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use ecs_slack_alerts::{
    alert::{Severity, Subject},
    incident::{
        Id, Incident, Key, Kind, Policy, Root, Signal, Transition,
        log::{Accepted, Failure, Notice, NotificationLog, Outcome, Refusal},
        next,
        store::{
            Item, Lease, Store, StoreError,
            dynamodb::{DynamoDb, TableError},
        },
    },
};
use futures_util::future::join_all;
use lab::{
    aws::Aws,
    fault::{Fault, FaultyAws},
    unique,
};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

const POLICY: Policy = Policy {
    remind_after: Duration::from_secs(3600),
    quiet_for: Duration::from_secs(600),
    reopen_within: Duration::from_secs(900),
    mention_from: None,
};

fn key() -> Key {
    Key::new("ops", "123456789012", "eu-west-1", "prod", Subject::Service, "checkout")
}

fn now() -> OffsetDateTime {
    // The table stores times in milliseconds.
    OffsetDateTime::now_utc().replace_nanosecond(7_000_000).unwrap()
}

fn problem(id: &str) -> Signal {
    Signal {
        id: Id::of(id),
        time: now(),
        severity: Severity::Critical,
        cause: Some("oom"),
        kind: Kind::Problem,
        deployment: None,
        failed_task: Some(Id::of(id)),
        noted_recovery: None,
    }
}

fn incident() -> Incident {
    let (_, incident) = next(None, &problem("1"), &POLICY, now());
    let mut incident = incident.unwrap();
    incident.root = Some(Root::Message { channel: "C1".into(), ts: "1.2".into() });
    incident
}

async fn table(aws: &Aws) -> String {
    let name = unique("incidents");
    aws.create_table(&name).await.unwrap();
    name
}

/// A Slack that several replicas share.
#[derive(Default)]
struct Slack {
    posts: Mutex<Vec<Notice>>,
    delay: Duration,
}

impl Slack {
    async fn take(&self, notice: Notice) -> Result<Accepted, Refusal<&'static str>> {
        lab::for_a_while(self.delay, "Slack takes this long to answer").await;
        let mut posts = self.posts.lock();
        posts.push(notice.clone());
        let own = Root::Message { channel: "C1".into(), ts: posts.len().to_string() };
        Ok(match notice.transition {
            Transition::Repeated => Accepted::Edited,
            _ => Accepted::Posted(notice.incident.root.clone().unwrap_or(own)),
        })
    }

    fn opened(&self) -> usize {
        let posts = self.posts.lock();
        posts.iter().filter(|notice| notice.transition == Transition::Opened).count()
    }
}

async fn report(log: &NotificationLog, slack: &Slack, signal: Signal) -> Result<Outcome, Failure<&'static str>> {
    let start_by = tokio::time::Instant::now() + Duration::from_secs(20);
    log.report(&key(), signal, &POLICY, start_by, |notice| slack.take(notice)).await
}

#[tokio::test]
async fn a_saved_item_is_loaded_and_expires() {
    let aws = Aws::shared().await.unwrap();
    let name = table(&aws).await;
    let store = DynamoDb::new(&aws.sdk_config().await, &name);
    assert_eq!(store.load(&key()).await, Ok(Item::default()));
    let lease = Lease { holder: Id::of("me"), until: now() + Duration::from_secs(10), recovers: false };
    let item = Item { version: 0, lease: Some(lease), incident: Some(incident().into()) };
    assert_eq!(store.save(&key(), &item).await, Ok(1));
    assert_eq!(store.load(&key()).await, Ok(Item { version: 1, ..item.clone() }));

    let items = aws.table_items(&name).await.unwrap();
    assert_eq!(items[0]["pk"], AttributeValue::S(key().incident()));
    let expires: i64 = items[0]["expires"].as_n().unwrap().parse().unwrap();
    let hours = (expires - OffsetDateTime::now_utc().unix_timestamp()) as f64 / 3600.0;
    assert!((24.5..=25.0).contains(&hours), "{hours}");

    // Only the holder of the lease may extend it.
    let later = Lease { until: lease.until + Duration::from_secs(10), ..lease };
    assert_eq!(store.extend(&key(), &later).await, Ok(()));
    let other = Lease { holder: Id::of("other"), ..later };
    assert_eq!(store.extend(&key(), &other).await, Err(StoreError::Conflict));
    assert_eq!(store.load(&key()).await, Ok(Item { version: 1, lease: Some(later), ..item.clone() }));
    // An extended lease does not change the version. So an item that was read before may still be saved, once.
    let read = Item { version: 1, lease: None, ..item };
    assert_eq!(store.save(&key(), &read).await, Ok(2));
    assert_eq!(store.save(&key(), &read).await, Err(StoreError::Conflict));
}

#[tokio::test]
async fn the_latest_recovery_is_noted() {
    let aws = Aws::shared().await.unwrap();
    let store = DynamoDb::new(&aws.sdk_config().await, &table(&aws).await);
    assert_eq!(store.last_recovery(&key()).await, Ok(None));
    let (earlier, later) = (now() - Duration::from_secs(5), now());
    for time in [earlier, later, earlier] {
        store.note_recovery(&key(), time).await.unwrap();
    }
    assert_eq!(store.last_recovery(&key()).await, Ok(Some(later)));
}

#[tokio::test]
async fn of_thirty_concurrent_claims_one_wins() {
    let aws = Aws::shared().await.unwrap();
    let (config, name) = (aws.sdk_config().await, table(&aws).await);
    let claims = (0..30).map(|number| {
        let store = DynamoDb::new(&config, &name);
        async move {
            let lease = Lease { holder: Id::of(&number.to_string()), until: now(), recovers: false };
            store.save(&key(), &Item { version: 0, lease: Some(lease), incident: None }).await
        }
    });
    let claims = join_all(claims).await;
    assert_eq!(claims.iter().filter(|claim| **claim == Ok(1)).count(), 1, "{claims:?}");
    assert_eq!(claims.iter().filter(|claim| **claim == Err(StoreError::Conflict)).count(), 29, "{claims:?}");
}

#[tokio::test]
async fn three_replicas_open_an_incident_once_and_count_every_event() {
    let aws = Aws::shared().await.unwrap();
    let (config, name) = (aws.sdk_config().await, table(&aws).await);
    let log = || NotificationLog::new(Store::DynamoDb(DynamoDb::new(&config, &name)), usize::MAX);
    let logs = [log(), log(), log()];
    let slack = Slack { delay: Duration::from_millis(200), ..Slack::default() };
    let alerts = (0..24).map(|task| report(&logs[task % 3], &slack, problem(&task.to_string())));
    let outcomes = join_all(alerts).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(slack.opened(), 1);
    let stored = DynamoDb::new(&config, &name).load(&key()).await.unwrap().incident.unwrap();
    assert_eq!((stored.events, stored.failed_tasks), (24, 24));
    // Every replica recognises a copy.
    assert_eq!(report(&logs[2], &slack, problem("0")).await, Ok(Outcome::Duplicate));
}

#[tokio::test]
async fn a_table_that_cannot_be_used_is_named_at_the_start() {
    let aws = Aws::shared().await.unwrap();
    let (config, good) = (aws.sdk_config().await, table(&aws).await);
    let good = DynamoDb::new(&config, &good);
    good.check_schema().await.unwrap();
    good.check_access().await.unwrap();

    let missing = DynamoDb::new(&config, "no-such-table").check_schema().await.unwrap_err();
    assert!(missing.is_misconfiguration());
    let missing = missing.to_string();
    assert!(missing.contains("dynamodb:DescribeTable") && missing.contains("no-such-table"), "{missing}");
    assert!(missing.contains("ResourceNotFoundException"), "{missing}");
    let name = unique("incidents");
    aws.create_table_with_key(&name, "id").await.unwrap();
    let wrong = DynamoDb::new(&config, &name).check_schema().await.unwrap_err();
    assert!(matches!(&wrong, TableError::Schema { found, .. } if found == "id (HASH, S)"), "{wrong}");

    let proxy = FaultyAws::start(&aws).await.unwrap();
    let denied = DynamoDb::new(&proxy.sdk_config().await, &table(&aws).await);
    for operation in ["PutItem", "UpdateItem", "GetItem", "DeleteItem"] {
        proxy.script(operation, [Fault::Error(400, "AccessDeniedException")]);
        let error = denied.check_access().await.unwrap_err().to_string();
        assert!(error.contains(&format!("dynamodb:{operation}")) && error.contains("AccessDenied"), "{error}");
    }
    denied.check_access().await.unwrap();
}

/// A log whose table always fails with this fault.
async fn log_with(fault: Fault) -> (NotificationLog, FaultyAws, Aws, String) {
    let aws = Aws::shared().await.unwrap();
    let name = table(&aws).await;
    let proxy = FaultyAws::start(&aws).await.unwrap();
    for operation in ["GetItem", "PutItem", "UpdateItem"] {
        proxy.always(operation, fault.clone());
    }
    let log = NotificationLog::new(Store::DynamoDb(DynamoDb::new(&proxy.sdk_config().await, &name)), usize::MAX);
    (log, proxy, aws, name)
}

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the log of each thread. Each test has its own thread.
struct Lines;

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What this test has logged since the previous call.
fn logged() -> String {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
        // One subscriber for all threads, because tracing caches the enabled levels for all of them.
        tracing::subscriber::set_global_default(subscriber.with_writer(|| Lines).finish()).unwrap();
    });
    String::from_utf8(LINES.take()).unwrap()
}

#[tokio::test]
async fn alerts_are_posted_whatever_the_table_does() {
    let never = Arc::new(Semaphore::new(0));
    for fault in [
        Fault::Hang,
        Fault::HangAfter,
        Fault::Held(never),
        Fault::Error(400, "ProvisionedThroughputExceededException"),
        Fault::Error(400, "ThrottlingException"),
        Fault::Error(400, "ResourceNotFoundException"),
        Fault::Error(400, "AccessDeniedException"),
        Fault::Error(500, "InternalServerError"),
    ] {
        let (log, proxy, ..) = log_with(fault.clone()).await;
        let slack = Slack::default();
        logged();
        let begun = Instant::now();
        assert_eq!(report(&log, &slack, problem("1")).await, Ok(Outcome::Reported(Transition::Opened)), "{fault:?}");
        let waited = begun.elapsed();
        assert!(waited < Duration::from_millis(900), "{fault:?}: {waited:?}");
        // Repeats are counted in the incident that this process knows, and the table is not asked for each of them.
        let begun = Instant::now();
        let others = (2..12).map(|id| report(&log, &slack, problem(&id.to_string())));
        assert!(join_all(others).await.iter().all(|outcome| *outcome == Ok(Outcome::Edited)), "{fault:?}");
        assert!(begun.elapsed() < Duration::from_millis(400), "{fault:?}: {:?}", begun.elapsed());
        let asked = ["GetItem", "PutItem", "UpdateItem"].map(|operation| proxy.calls(operation).len());
        assert!(asked.iter().sum::<usize>() <= 2, "{fault:?}: {asked:?}");
        assert_eq!(slack.posts.lock().last().unwrap().incident.events, 11);
        let lines = logged();
        assert_eq!(lines.matches("WARN").count(), 1, "{fault:?}: {lines}");
    }
}

#[tokio::test]
async fn an_item_that_cannot_be_read_blocks_no_alert() {
    let aws = Aws::shared().await.unwrap();
    let (config, name) = (aws.sdk_config().await, table(&aws).await);
    let client = aws_sdk_dynamodb::Client::new(&config);
    let put = client.put_item().table_name(&name).item("pk", AttributeValue::S(key().incident()));
    put.item("v", AttributeValue::S("two".into())).send().await.unwrap();
    let log = NotificationLog::new(Store::DynamoDb(DynamoDb::new(&config, &name)), usize::MAX);
    let slack = Slack::default();
    assert_eq!(report(&log, &slack, problem("1")).await, Ok(Outcome::Reported(Transition::Opened)));
    assert_eq!(report(&log, &slack, problem("2")).await, Ok(Outcome::Edited));
    // The table still stores other items.
    let store = DynamoDb::new(&config, &name);
    assert_eq!(
        log.open_in(&Signal { kind: Kind::Recovery { confirmed: Some(true) }, ..problem("3") }, &[key()]).await,
        [true]
    );
    assert!(store.last_recovery(&key()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_record_whose_answer_is_lost_is_still_in_the_table() {
    let aws = Aws::shared().await.unwrap();
    let name = table(&aws).await;
    let proxy = FaultyAws::start(&aws).await.unwrap();
    let config = proxy.sdk_config().await;
    let log = NotificationLog::new(Store::DynamoDb(DynamoDb::new(&config, &name)), usize::MAX);
    let slack = Slack::default();
    // The first write takes the lease. The second one records the report, and its answer is lost.
    proxy.script("PutItem", [Fault::None, Fault::HangAfter]);
    assert_eq!(report(&log, &slack, problem("1")).await, Ok(Outcome::Reported(Transition::Opened)));
    let other = NotificationLog::new(Store::DynamoDb(DynamoDb::new(&config, &name)), usize::MAX);
    assert_eq!(report(&other, &slack, problem("2")).await, Ok(Outcome::Edited));
    assert_eq!(slack.opened(), 1);
}

#[tokio::test]
async fn an_incident_from_an_outage_of_the_table_is_recorded_when_the_table_answers_again() {
    let (log, proxy, aws, name) = log_with(Fault::Error(500, "InternalServerError")).await;
    let slack = Slack::default();
    report(&log, &slack, problem("1")).await.unwrap();
    assert_eq!(aws.table_items(&name).await.unwrap(), []);
    for operation in ["GetItem", "PutItem", "UpdateItem"] {
        proxy.always(operation, Fault::None);
    }
    // The table is asked again some seconds later.
    let number = AtomicUsize::new(2);
    lab::eventually("the incident is in the table", Duration::from_secs(20), async || {
        let id = number.fetch_add(1, Ordering::SeqCst).to_string();
        assert_eq!(report(&log, &slack, problem(&id)).await, Ok(Outcome::Edited));
        Ok(!aws.table_items(&name).await?.is_empty())
    })
    .await
    .unwrap();
    let stored = DynamoDb::new(&aws.sdk_config().await, &name).load(&key()).await.unwrap().incident.unwrap();
    assert_eq!(stored.events, number.load(Ordering::SeqCst) as u64 - 1);
    assert_eq!(slack.opened(), 1);
}
