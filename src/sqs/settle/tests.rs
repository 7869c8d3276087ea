use super::*;

fn failure(id: &str, sender_fault: bool) -> BatchResultErrorEntry {
    BatchResultErrorEntry::builder().id(id).sender_fault(sender_fault).code("InternalError").build().unwrap()
}

#[test]
fn a_batch_that_partly_fails_gives_each_entry_its_own_answer() {
    let answers = per_entry(3, Ok(vec![failure("1", false), failure("2", true), failure("nonsense", true)]));
    let retryable: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|error| error.retryable)).collect();
    assert_eq!(retryable.iter().map(|r| r.is_ok()).collect::<Vec<_>>(), [true, false, false]);
    assert!(retryable[1].unwrap_err());
    assert!(!retryable[2].unwrap_err());
}

#[test]
fn a_request_that_fails_fails_all_its_entries() {
    let error = SqsError::other(DELETE, true, "down");
    assert!(per_entry(2, Err(error)).iter().all(Result::is_err));
}
