//! Statistics: what servers and networks were like in each minute of a day and each quarter of an hour of a month. Pure: which
//! slot a moment belongs to, how many samples become one, and how long boots took. A slot in which nobody looked has no sample.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How fine samples are, and for how long they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Span {
    /// One sample a minute, for a day.
    Day,
    /// One sample a quarter of an hour, for 31 days.
    Month,
}

impl Span {
    /// Both, the finer first.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// How long a slot is.
    pub fn slot_ms(self) -> u64 {
        match self {
            Self::Day => 60_000,
            Self::Month => 15 * 60_000,
        }
    }

    /// For how long samples are kept: at the most 1,440 and 2,976 rows of each server and each network.
    pub fn kept_ms(self) -> u64 {
        match self {
            Self::Day => 24 * 3_600_000,
            Self::Month => 31 * 24 * 3_600_000,
        }
    }

    /// The beginning of the slot of this moment.
    pub fn slot_of(self, ms: u64) -> u64 {
        ms - ms % self.slot_ms()
    }
}

/// A sample that can be made one with others.
pub trait Sample: Copy {
    /// The beginning of its slot, in milliseconds since 1970.
    fn slot_ms(&self) -> u64;

    /// One sample for all of these, which are not none, at this slot.
    fn merge(slot_ms: u64, samples: &[Self]) -> Self;
}

/// What a server was like in a slot: means over it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct ServerSample {
    /// The beginning of the slot, in milliseconds since 1970.
    pub slot_ms: u64,
    /// Sessions at its targets.
    pub sessions: f64,
    /// Devices with a session.
    pub devices_up: f64,
    /// The size of its pools together.
    pub pool_bytes: f64,
    /// What of that is used.
    pub used_bytes: f64,
    /// What volumes use.
    pub volumes_bytes: f64,
    /// What groups use, with their generations.
    pub groups_bytes: f64,
    /// What devices' own clones use.
    pub devices_bytes: f64,
    /// What vDisks use.
    pub vdisks_bytes: f64,
}

/// What a network was like in a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct NetworkSample {
    /// The beginning of the slot, in milliseconds since 1970.
    pub slot_ms: u64,
    /// Devices with a session: the mean over the slot. One that uses two servers counts at each.
    pub devices_up: f64,
    /// Devices that came up in the slot.
    pub boots: f64,
    /// Devices that could not boot in the slot.
    pub failed: f64,
    /// How long the boots took that came up: half of them no longer than this. Merged: the mean, by how many boots each stands for.
    pub p50_ms: Option<f64>,
    /// 95 % of them no longer than this. Merged: the longest.
    pub p95_ms: Option<f64>,
}

/// The mean; 0 of none.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

impl Sample for ServerSample {
    fn slot_ms(&self) -> u64 {
        self.slot_ms
    }

    fn merge(slot_ms: u64, samples: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| mean(samples.iter().map(of));
        Self {
            slot_ms,
            sessions: mean(|s| s.sessions),
            devices_up: mean(|s| s.devices_up),
            pool_bytes: mean(|s| s.pool_bytes),
            used_bytes: mean(|s| s.used_bytes),
            volumes_bytes: mean(|s| s.volumes_bytes),
            groups_bytes: mean(|s| s.groups_bytes),
            devices_bytes: mean(|s| s.devices_bytes),
            vdisks_bytes: mean(|s| s.vdisks_bytes),
        }
    }
}

impl Sample for NetworkSample {
    fn slot_ms(&self) -> u64 {
        self.slot_ms
    }

    fn merge(slot_ms: u64, samples: &[Self]) -> Self {
        let timed = || samples.iter().filter_map(|s| Some((s.p50_ms?, s.boots.max(1.0))));
        let weight: f64 = timed().map(|(_, boots)| boots).sum();
        let p50_ms = timed().map(|(p50, boots)| p50 * boots).sum::<f64>() / weight;
        Self {
            slot_ms,
            devices_up: mean(samples.iter().map(|s| s.devices_up)),
            boots: samples.iter().map(|s| s.boots).sum(),
            failed: samples.iter().map(|s| s.failed).sum(),
            p50_ms: (weight > 0.0).then_some(p50_ms),
            p95_ms: samples.iter().filter_map(|s| s.p95_ms).reduce(f64::max),
        }
    }
}

/// Samples in wider slots. They come in the order of time; a slot of none has none.
pub fn downsample<T: Sample>(samples: &[T], slot_ms: u64) -> Vec<T> {
    let slot_ms = slot_ms.max(1);
    let slot = |sample: &T| sample.slot_ms() - sample.slot_ms() % slot_ms;
    let chunks = samples.chunk_by(|one, other| slot(one) == slot(other));
    chunks.filter_map(|chunk| Some(T::merge(slot(chunk.first()?), chunk))).collect()
}

/// The least of these that so much of them, in percent, are no greater than (the nearest rank); absent of none.
pub fn percentile(values: &mut [u64], percent: usize) -> Option<u64> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(slot_ms: u64, value: f64) -> ServerSample {
        ServerSample { slot_ms, sessions: value, used_bytes: value * 2.0, ..Default::default() }
    }

    fn network(slot_ms: u64, boots: u32, p50: u32) -> NetworkSample {
        let timed = |ms: u32| (boots > 0).then_some(f64::from(ms));
        NetworkSample {
            slot_ms,
            devices_up: 1.0,
            boots: f64::from(boots),
            failed: 0.0,
            p50_ms: timed(p50),
            p95_ms: timed(p50 + 7),
        }
    }

    proptest! {
        /// The laws of down-sampling: a slot has a sample exactly when one of its moments had, in order and each once; a mean lies
        /// between the least and the greatest of what it is made of; and doing it again changes nothing.
        #[test]
        fn a_wider_slot_lies_between_what_it_is_made_of(
            values in prop::collection::btree_map(0_u64..500, 0_u32..1_000_000, 0..120),
            width in 1_u64..40,
        ) {
            let fine: Vec<_> = values.iter().map(|(slot, v)| sample(*slot, f64::from(*v))).collect();
            let wide = downsample(&fine, width);
            let slots: Vec<u64> = wide.iter().map(|sample| sample.slot_ms).collect();
            let mut expected: Vec<u64> = values.keys().map(|slot| slot / width * width).collect();
            expected.dedup();
            prop_assert_eq!(&slots, &expected);
            for one in &wide {
                let inside = values.range(one.slot_ms..one.slot_ms + width).map(|(_, v)| f64::from(*v));
                let (least, most) = inside
                    .fold((f64::MAX, f64::MIN), |(least, most), v| (least.min(v), most.max(v)));
                prop_assert!((least - 1e-6..=most + 1e-6).contains(&one.sessions));
                prop_assert!((one.used_bytes - one.sessions * 2.0).abs() < 1e-3);
            }
            prop_assert_eq!(downsample(&wide, width), wide);
        }

        /// No boot is lost or counted twice, however often and wherever slots are made wider.
        #[test]
        fn boots_are_added_up(
            boots in prop::collection::btree_map(0_u64..300, (0_u32..50, 1_u32..90_000), 0..60),
            width in 1_u64..30,
        ) {
            let fine: Vec<_> =
                boots.iter().map(|(slot, (boots, p50))| network(*slot, *boots, *p50)).collect();
            let wide = downsample(&downsample(&fine, width), width * 4);
            let sum = |samples: &[NetworkSample]| samples.iter().map(|s| s.boots).sum::<f64>();
            prop_assert!((sum(&fine) - sum(&wide)).abs() < 1e-6);
            let longest = |samples: &[NetworkSample]| {
                samples.iter().filter_map(|s| s.p95_ms).reduce(f64::max)
            };
            prop_assert_eq!(longest(&fine), longest(&wide));
            for one in &wide {
                prop_assert_eq!(one.p50_ms.is_some(), one.boots > 0.0);
            }
        }

        /// The definition of the nearest rank.
        #[test]
        fn a_percentile_has_so_many_below_it(
            mut values in prop::collection::vec(0_u64..1000, 1..200),
            percent in 1_usize..=100,
        ) {
            let found = percentile(&mut values, percent).unwrap();
            let no_greater = values.iter().filter(|value| **value <= found).count();
            let less = values.iter().filter(|value| **value < found).count();
            prop_assert!(no_greater * 100 >= values.len() * percent);
            prop_assert!(less * 100 < values.len() * percent);
        }
    }

    #[test]
    fn a_month_and_a_day_are_bounded() {
        let rows = |span: Span| span.kept_ms() / span.slot_ms();
        assert_eq!(Span::ALL.map(rows), [1_440, 2_976]);
        assert_eq!(Span::Month.slot_of(15 * 60_000 + 1), 15 * 60_000);
        assert_eq!(percentile(&mut [], 50), None);
    }

    #[test]
    fn the_middle_of_merged_boots_is_weighed_by_how_many_they_are() {
        let merged = NetworkSample::merge(0, &[network(0, 9, 1000), network(1, 1, 2000)]);
        assert_eq!((merged.p50_ms, merged.p95_ms), (Some(1100.0), Some(2007.0)));
    }
}
