//! The end of the program: one signal that everybody sees, and the instant by which all work must have ended.

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// `None` while the program runs; from the first signal on, the instant by which all work must have ended.
pub type Stop = watch::Receiver<Option<Instant>>;

/// Returns at the end of the drain; never, while the program is not stopping.
pub async fn drained(mut stop: Stop) {
    match stop.wait_for(Option::is_some).await.map(|stop_by| *stop_by) {
        Ok(Some(stop_by)) => sleep_until(stop_by).await,
        _ => std::future::pending().await,
    }
}
