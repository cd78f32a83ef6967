//! How a device boots: the moments of its steps, as its server told them. Pure; keeping them is the store's.
//!
//! The address that a device gets comes before the first step that is told: an agent hears of a boot when the script is asked for.

use model::wire::BootStep;
use schemars::JsonSchema;
use serde::Serialize;

use crate::noun::{Device, Id, Network, Server};

/// How many boots of a device are kept.
pub const KEPT: usize = 20;
/// A boot that stands still for so long is not under way any more.
pub const UNDER_WAY_MS: u64 = 10 * 60 * 1000;

/// A boot of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// What its server calls it.
    pub boot: String,
    /// The server that it booted from, while that is there.
    pub server: Option<Id<Server>>,
    /// That server's name.
    pub server_name: Option<String>,
    /// When its first step was told, in milliseconds since 1970 by the server's clock.
    pub began_ms: u64,
    /// When its last step was.
    pub last_ms: u64,
    /// When each step was, in the order of [`STEPS`].
    pub steps: [Option<u64>; STEPS.len()],
    /// When it gave up.
    pub failed_ms: Option<u64>,
    /// What the device said last.
    pub message: Option<String>,
}

/// The steps of a boot that goes well, in their order.
pub const STEPS: [BootStep; 6] = [
    BootStep::Script,
    BootStep::Kernel,
    BootStep::Initrd,
    BootStep::Network,
    BootStep::Root,
    BootStep::Up,
];

/// The word of a step.
pub fn word(step: BootStep) -> &'static str {
    match step {
        BootStep::Script => "script",
        BootStep::Kernel => "kernel",
        BootStep::Initrd => "initrd",
        BootStep::Network => "network",
        BootStep::Root => "root",
        BootStep::Up => "up",
        BootStep::Failed => "failed",
    }
}

/// Where a boot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "BootState")]
pub enum State {
    /// The device is up.
    Up,
    /// It gave up.
    Failed,
    /// It goes on.
    Booting,
    /// It stood still, and nothing more was heard.
    Stopped,
}

impl State {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Failed => "failed",
            Self::Booting => "booting",
            Self::Stopped => "stopped",
        }
    }
}

/// A step that a boot reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reached {
    /// Which.
    pub step: BootStep,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long after the beginning of the boot.
    pub after_ms: u64,
    /// How long after the step before it.
    pub took_ms: u64,
}

impl Boot {
    /// Where it stands.
    pub fn state(&self, now_ms: u64) -> State {
        if self.up_ms().is_some() {
            State::Up
        } else if self.failed_ms.is_some() {
            State::Failed
        } else if now_ms.saturating_sub(self.last_ms) < UNDER_WAY_MS {
            State::Booting
        } else {
            State::Stopped
        }
    }

    /// When the device was up.
    pub fn up_ms(&self) -> Option<u64> {
        self.steps.last().copied().flatten()
    }

    /// How long it took until the device was up.
    pub fn took_ms(&self) -> Option<u64> {
        self.up_ms().map(|up_ms| up_ms.saturating_sub(self.began_ms))
    }

    /// The steps that it reached, in the order of time.
    pub fn reached(&self) -> Vec<Reached> {
        let steps = STEPS.into_iter().zip(self.steps);
        let mut moments: Vec<(u64, BootStep)> =
            steps.filter_map(|(step, at_ms)| Some((at_ms?, step))).collect();
        moments.extend(self.failed_ms.map(|at_ms| (at_ms, BootStep::Failed)));
        moments.sort_by_key(|(at_ms, _)| *at_ms);
        let mut before = self.began_ms;
        let reached = moments.into_iter().map(|(at_ms, step)| {
            let took_ms = at_ms.saturating_sub(before);
            before = at_ms;
            Reached { step, at_ms, after_ms: at_ms.saturating_sub(self.began_ms), took_ms }
        });
        reached.collect()
    }

    /// The last step that it reached.
    pub fn last(&self) -> Option<BootStep> {
        self.reached().last().map(|reached| reached.step)
    }
}

/// A boot that is under way, with its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveBoot {
    /// The device.
    pub device: Id<Device>,
    /// Its name.
    pub name: String,
    /// The network it is in.
    pub network: Id<Network>,
    /// That network's name.
    pub network_name: String,
    /// The boot.
    pub boot: Boot,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn boot(steps: [Option<u64>; 6], failed_ms: Option<u64>) -> Boot {
        let all = steps.into_iter().chain([failed_ms]).flatten();
        Boot {
            boot: "0".repeat(32),
            server: None,
            server_name: None,
            began_ms: all.clone().min().unwrap(),
            last_ms: all.max().unwrap(),
            steps,
            failed_ms,
            message: None,
        }
    }

    #[test]
    fn a_boot_stands_where_its_steps_say() {
        let under_way = boot([Some(1000), Some(3000), None, None, None, None], None);
        assert_eq!(under_way.state(4000), State::Booting);
        assert_eq!(under_way.state(3000 + UNDER_WAY_MS), State::Stopped);
        assert_eq!((under_way.last(), under_way.took_ms()), (Some(BootStep::Kernel), None));
        let failed = boot([Some(1000), None, None, None, None, None], Some(9000));
        assert_eq!(failed.state(u64::MAX), State::Failed);
        let up = boot([Some(1000), Some(1500), Some(1600), None, None, Some(9000)], Some(2000));
        assert_eq!((up.state(0), up.took_ms()), (State::Up, Some(8000)), "it came up after all");
    }

    #[test]
    fn steps_are_told_in_the_order_of_time_with_what_each_took() {
        let boot = boot([Some(1000), Some(1500), None, Some(4000), None, Some(9000)], Some(5000));
        let reached: Vec<_> =
            boot.reached().iter().map(|r| (word(r.step), r.after_ms, r.took_ms)).collect();
        assert_eq!(
            reached,
            [
                ("script", 0, 0),
                ("kernel", 500, 500),
                ("network", 3000, 2500),
                ("failed", 4000, 1000),
                ("up", 8000, 4000)
            ]
        );
    }
}
