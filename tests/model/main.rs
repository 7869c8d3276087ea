//! The protocol that the worker rests on, in every interleaving within small bounds: see [`protocol`]. Exhaustive, so what holds
//! here needs no luck; a model, so what holds here holds of the program as far as each step says which of its lines it stands for.
//!
//! The search is a breadth-first one of our own: the checkers that are maintained bring a web server and some forty crates.
//! What can be driven as it is, is: the interleavings of the real batcher are in `src/batch/interleavings.rs`.

#![allow(unreachable_pub, reason = "one binary, one crate")]

mod protocol;
mod search;

use protocol::{ALL, EXPLAIN_NONE, Fault, Fault::*, Protocol, Rule};
use search::{Counterexample, search};

/// One event for two channels, and all that may go wrong, in any combination of two. With three there are 537,723 states and no
/// counterexample either, but that takes ten seconds.
const TWO_WORKERS: Protocol = Protocol {
    rule: Rule::AsIs,
    workers: 2,
    messages: 1,
    channels: 2,
    max_receives: 3,
    faults: ALL,
    max_faults: 2,
    max_accepted: None,
    may_overlap: true,
};

#[track_caller]
fn holds(protocol: Protocol) -> usize {
    let states = search(&protocol).unwrap_or_else(|Counterexample { what, steps }| panic!("{what}: {steps:#?}"));
    println!("{states} states");
    states
}

#[track_caller]
fn fails(protocol: Protocol, expected: &str) {
    let Counterexample { what, steps } = search(&protocol).expect_err("the broken protocol passes");
    println!("{what}: {steps:?}");
    assert_eq!(what, expected, "{steps:#?}");
}

#[test]
fn one_message_for_two_channels_is_never_lost_whatever_fails() {
    holds(TWO_WORKERS);
}

#[test]
fn two_messages_are_never_lost_whatever_fails() {
    holds(Protocol { messages: 2, channels: 1, max_receives: 2, max_faults: 2, ..TWO_WORKERS });
}

#[test]
fn one_worker_has_nothing_posted_twice_however_often_it_comes() {
    // Whatever it knows of Slack is true, and it lives; only SQS fails.
    const OF_SQS: &[Fault] = &[ReceiveLost, Refuse, Late, DeleteLost, DeleteFail, PutBackFail, ExpireHeld];
    holds(Protocol { workers: 1, faults: OF_SQS, max_accepted: Some(1), ..TWO_WORKERS });
}

#[test]
fn without_a_crash_a_lost_answer_or_an_expiry_nothing_is_posted_twice() {
    holds(Protocol { channels: 1, faults: EXPLAIN_NONE, max_accepted: Some(1), may_overlap: false, ..TWO_WORKERS });
}

#[test]
fn while_nothing_expires_that_is_worked_on_no_two_hold_it() {
    const IN_TIME: &[Fault] = &[ReceiveLost, Refuse, AnswerLost, Late, DeleteLost, DeleteFail, PutBackFail, Crash];
    holds(Protocol { faults: IN_TIME, may_overlap: false, ..TWO_WORKERS });
    // The deadline is what keeps it so.
    fails(Protocol { may_overlap: false, ..TWO_WORKERS }, "two tasks hold one message");
}

#[test]
fn an_event_for_two_channels_may_reach_one_of_them_twice_when_the_other_fails() {
    // What a worker has posted only it knows: it is put back for the other channel, and another worker takes it.
    let partial = Protocol { faults: EXPLAIN_NONE, max_accepted: Some(1), ..TWO_WORKERS };
    fails(partial, "posted twice for no reason");
    holds(Protocol { workers: 1, ..partial });
}

#[test]
fn a_broken_protocol_is_found_out() {
    let broken = |rule| Protocol { rule, ..TWO_WORKERS };
    fails(broken(Rule::DeleteOnReceive), "deleted, and a channel never had it");
    fails(broken(Rule::DeleteWhenOneChannelHasIt), "deleted, and a channel never had it");
    fails(broken(Rule::RememberBeforeTheAnswer), "deleted, and a channel never had it");
    fails(broken(Rule::HoldWhatFailed), "a dead end");
    let one_worker = Protocol { workers: 1, faults: &[ExpireHeld], max_accepted: Some(1), ..TWO_WORKERS };
    fails(Protocol { rule: Rule::ForgetWhatWasPosted, ..one_worker }, "posted twice for no reason");
}
