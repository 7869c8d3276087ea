//! Holds the lease during a post, and records the result.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::{CONFLICTS, LEASE, Notice, NotificationLog};
use crate::{
    incident::{
        Incident, Key, Policy, Root, Signal, Transition, next,
        store::{
            Lease,
            ledger::{Loaded, STORE_TIMEOUT},
        },
    },
    metrics,
};

impl NotificationLog {
    /// Awaits the post, and extends the lease meanwhile.
    pub(super) async fn keep_lease<T>(&self, key: &Key, transition: Transition, post: impl Future<Output = T>) -> T {
        let mut post = std::pin::pin!(post);
        let mut extend_at = Instant::now() + LEASE / 3;
        loop {
            tokio::select! {
                biased;
                answer = &mut post => return answer,
                () = sleep_until(extend_at) => {
                    let recovers = transition == Transition::Recovered;
                    let lease = Lease { holder: self.holder, until: (self.clock)() + LEASE, recovers };
                    self.ledger.extend(key, &lease, Instant::now() + STORE_TIMEOUT).await;
                    extend_at = Instant::now() + LEASE / 3;
                }
            }
        }
    }

    /// Records what Slack accepted, and releases the lease.
    #[expect(clippy::too_many_arguments, reason = "the decision, its result, and the incident")]
    pub(super) async fn record(
        &self,
        key: &Key,
        signal: &Signal,
        policy: &Policy,
        mut loaded: Loaded,
        notice: &Notice,
        root: Option<Root>,
        gone: Option<&Root>,
    ) {
        let mut incident = Incident::clone(&notice.incident).moved_to(root.clone());
        let _turn = self.turns.take(key).await;
        for _ in 0..CONFLICTS {
            if notice.transition == Transition::Recovered {
                incident.others.clear();
            }
            loaded.item.incident = Some(Arc::new(incident.clone()));
            loaded.item.lease = None;
            if self.ledger.save(key, &mut loaded, Instant::now() + STORE_TIMEOUT).await.is_ok() {
                break;
            }
            // Others have counted events meanwhile: add this one.
            loaded = self.ledger.load(key, Instant::now() + STORE_TIMEOUT).await;
            forget_root(&mut loaded, gone);
            let known = loaded.item.incident.take();
            let (_, with_this) = next(known.as_deref(), signal, policy, (self.clock)());
            if let Some(merged) = with_this.or(known.map(Arc::unwrap_or_clone)) {
                let reported = incident.reported.max(merged.reported);
                // Slack shows it as recovered. A problem that arrived meanwhile does not reopen it, but the next one does.
                let recovered = match notice.transition {
                    Transition::Recovered => incident.recovered.max(merged.recovered),
                    _ => merged.recovered,
                };
                // If another replica has opened it meanwhile, that root stays.
                let root = match &merged.root {
                    Some(theirs) if notice.incident.root.as_ref() != Some(theirs) => Some(theirs.clone()),
                    _ => root.clone(),
                };
                incident = Incident { reported, recovered, ..merged.moved_to(root) };
            }
        }
        metrics::incident(key.channel(), notice.transition.as_str());
        if let (Transition::Recovered, Some(duration)) = (notice.transition, notice.incident.duration()) {
            metrics::incident_duration(key.channel(), duration);
        }
    }

    /// Releases the lease. If that fails, the lease expires.
    pub(super) async fn release_lease(&self, key: &Key, mut loaded: Loaded) {
        let _turn = self.turns.take(key).await;
        loaded.item.lease = None;
        let _ = self.ledger.save(key, &mut loaded, Instant::now() + STORE_TIMEOUT).await;
    }
}

/// Removes the root that no longer exists in Slack.
pub(super) fn forget_root(loaded: &mut Loaded, gone: Option<&Root>) {
    if let Some(incident) =
        loaded.item.incident.as_mut().filter(|incident| gone.is_some() && incident.root.as_ref() == gone)
    {
        Arc::make_mut(incident).root = None;
    }
}
