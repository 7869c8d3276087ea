//! A few short rounds of `make chaos`, which takes minutes.

use lab::chaos::{self, Size, Tally};
use tokio::task::JoinSet;

use crate::world::BINARY;

const SEED: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_in_a_few_seconds_of_chaos() {
    let mut rounds = JoinSet::new();
    for round in 1..=3 {
        rounds.spawn_blocking(move || {
            let played = chaos::round(BINARY.into(), SEED, round, Size::Short);
            (round, tokio::runtime::Handle::current().block_on(played))
        });
    }
    let mut tally = Tally::default();
    while let Some(played) = rounds.join_next().await {
        let (round, played) = played.unwrap();
        let again = format!("`make chaos SEED={SEED} ROUND={round} SHORT=1` repeats it");
        tally.add(&played.unwrap_or_else(|error| panic!("round {round}, {again}: {error:#}")));
    }
    // Without these events the rounds would test little.
    let happened = ["SIGKILL", "DLQ: cannot be decoded", "fault: Slack answers 429", "fault: AWS answers 500"];
    let of_incidents =
        ["settled as folded", "recovery shown, table", "recovery shown, failing table", "incidents by a bot"];
    for what in happened.into_iter().chain(of_incidents) {
        assert!(tally.all(what) > 0, "no {what}:\n{tally}");
    }
}
