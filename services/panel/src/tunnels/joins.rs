//! Boxes that join through a tunnel: a few requests wait for them there at all times, each on a connection of its own.

use std::sync::Arc;

use tokio::time::sleep;

use super::{Arrival, Shared};
use crate::{
    fleet::{Never, backoff, chain},
    store::Relay,
};

/// Waits at a tunnel for boxes, and hands each to whoever serves them. That nobody can be waited for ends nothing else.
pub(super) async fn accept(shared: &Arc<Shared>, relay: &Relay) -> Never {
    let one = || accept_one(shared, relay);
    tokio::select! {
        never = one() => never,
        never = one() => never,
        never = one() => never,
        never = one() => never,
    }
}

async fn accept_one(shared: &Arc<Shared>, relay: &Relay) -> Never {
    let mut failures = 0;
    loop {
        let came = async { shared.connect(relay.tunnel).await?.join().await };
        match came.await {
            Ok(Some((address, stream))) => {
                failures = 0;
                hand_over(shared, Arrival { tunnel: relay.tunnel, address, stream });
            }
            Ok(None) => failures = 0,
            Err(error) => {
                let error = chain(&error);
                tracing::debug!(tunnel = %relay.name, error, "no box can be waited for");
                sleep(backoff(failures, rand::random())).await;
                failures += 1;
            }
        }
    }
}

fn hand_over(shared: &Shared, arrival: Arrival) {
    let (tunnel, from) = (arrival.tunnel, arrival.address);
    if shared.joins.try_send(arrival).is_err() {
        tracing::warn!(%tunnel, %from, "a box that joins is turned away: too many wait, or nobody serves them");
    }
}
