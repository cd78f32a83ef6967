//! What can be wrong with tunnels, and with networks whose servers come through them.

use super::{About, At, Cause, Found, MINUTE_MS, Severity, TunnelFacts, TunnelledFacts};
use crate::{fleet::State, noun::Noun};

/// So long a tunnel may be away before somebody has to know: it may have been started anew.
const AWAY_MS: u64 = MINUTE_MS;

impl Found<'_> {
    /// A panel that has just started does not know whether a tunnel is there; one that was not still is not.
    fn away(&self, tunnel: &TunnelFacts) -> bool {
        let word = Cause::TunnelDown { error: None }.word();
        match tunnel.state {
            State::Connected => false,
            State::Connecting => self.stood(&format!("{word}/{}", tunnel.id)).is_some(),
            State::Lost => {
                let stood = self.stood(&format!("{word}/{}", tunnel.id)).is_some();
                stood || self.ago(tunnel.since_ms) > AWAY_MS
            }
        }
    }

    pub(super) fn tunnel(&mut self, tunnel: &TunnelFacts) {
        let (id, name) = (tunnel.id.number(), tunnel.name.clone());
        let about = About { noun: Some(Noun::Tunnel), id, name };
        let at = At { about, ..At::panel("panel") };
        let (of, error) = (tunnel.id.to_string(), tunnel.error.clone());
        if self.away(tunnel) {
            let cause = Cause::TunnelDown { error };
            self.add(&of, at, Severity::Warning, Some(tunnel.since_ms), cause);
            return;
        }
        let faults =
            || error.iter().filter(|_| tunnel.state == State::Connected).chain(&tunnel.faults);
        if let Some(fault) = faults().next() {
            let count = u64::try_from(faults().count()).unwrap_or(u64::MAX);
            let cause = Cause::TunnelFaults { count, fault: fault.clone() };
            self.add(&of, at, Severity::Warning, None, cause);
        }
    }

    pub(super) fn tunnelled(&mut self, network: &TunnelledFacts) {
        let of = |id| self.facts.tunnels.iter().find(|tunnel| tunnel.id == id);
        let tunnels: Vec<_> = network.tunnels.iter().copied().filter_map(of).collect();
        if tunnels.iter().any(|tunnel| !self.away(tunnel)) {
            return;
        }
        // Since the last of them went.
        let since_ms = tunnels.iter().map(|tunnel| tunnel.since_ms).max();
        let tunnels = tunnels.iter().map(|tunnel| tunnel.name.clone()).collect();
        let (id, name) = (network.id.number(), network.name.clone());
        let at = At {
            about: About { noun: Some(Noun::Network), id, name: name.clone() },
            place: network.id.place(),
            organization: Some(network.organization),
            network: Some(name),
        };
        let cause = Cause::NoTunnel { servers: network.servers, tunnels };
        self.add(&network.id.to_string(), at, Severity::Critical, since_ms, cause);
    }
}
