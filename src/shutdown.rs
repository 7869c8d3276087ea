//! The drain: one shared value that holds the instant by which all work must have ended.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// `None` while the program runs; after the first signal, the instant by which all work must have ended.
pub type StopSignal = watch::Receiver<Option<Instant>>;

/// Returns at the end of the drain. Does not return while the program is not stopping.
pub async fn drained(mut stop: StopSignal) {
    match stop.wait_for(Option::is_some).await.map(|stop_by| *stop_by) {
        Ok(Some(stop_by)) => sleep_until(stop_by).await,
        _ => std::future::pending().await,
    }
}
