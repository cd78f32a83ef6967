//! The last boots of each device.

use model::{
    name::{BootId, DeviceName},
    wire::BootStep,
};
use rusqlite::{Row, params_from_iter};

use super::{Error, Owner, Scope, Tx, listing::scope_condition};
use crate::{
    boots::{Boot, KEPT, LiveBoot, UNDER_WAY_MS},
    noun::{Device, Id, Network, Server},
};

/// The latest that an agent's clock may say: what it says is not ours to believe, and has to fit the database.
const LATEST_MS: u64 = 1 << 53;
/// The longest of what a device says that is kept.
const MOST_MESSAGE: usize = 300;

/// A step of a boot, as an agent told it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToldStep<'a> {
    pub(crate) device: &'a DeviceName,
    pub(crate) boot: &'a BootId,
    pub(crate) step: BootStep,
    pub(crate) message: &'a str,
    pub(crate) time_ms: u64,
}

fn column(step: BootStep) -> &'static str {
    match step {
        BootStep::Script => "script_ms",
        BootStep::Kernel => "kernel_ms",
        BootStep::Initrd => "initrd_ms",
        BootStep::Network => "network_ms",
        BootStep::Root => "root_ms",
        BootStep::Up => "up_ms",
        BootStep::Failed => "failed_ms",
    }
}

const BOOT: &str = "b.boot, b.server_id, s.name, b.began_ms, b.last_ms, b.script_ms, b.kernel_ms, b.initrd_ms, b.network_ms,
    b.root_ms, b.up_ms, b.failed_ms, b.message";

fn boot(row: &Row<'_>) -> Result<Boot, rusqlite::Error> {
    Ok(Boot {
        boot: row.get(0)?,
        server: row.get::<_, Option<i64>>(1)?.map(Id::new),
        server_name: row.get(2)?,
        began_ms: row.get(3)?,
        last_ms: row.get(4)?,
        steps: [row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?, row.get(10)?],
        failed_ms: row.get(11)?,
        message: row.get(12)?,
    })
}

impl Tx<'_> {
    /// Keeps a step of a boot; false when it was known, or when the server's network has no such device. The first that is told
    /// of a step counts: agents tell again what they remember.
    pub(crate) fn keep_step(self, server: Id<Server>, told: ToldStep<'_>) -> Result<bool, Error> {
        let column = column(told.step);
        let time_ms = told.time_ms.min(LATEST_MS);
        let message: String = told.message.chars().take(MOST_MESSAGE).collect();
        let message = Some(message).filter(|message| !message.is_empty());
        let sql = format!(
            "INSERT INTO boots (device_id, boot, network_id, server_id, began_ms, last_ms, message, {column})
             SELECT d.id, ?3, d.network_id, s.id, ?4, ?4, ?5, ?4
             FROM servers s JOIN devices d ON d.network_id = s.network_id WHERE s.id = ?1 AND d.name = ?2
             ON CONFLICT (device_id, boot) DO UPDATE SET {column} = ?4, began_ms = min(began_ms, ?4),
                last_ms = max(last_ms, ?4), message = coalesce(?5, message) WHERE {column} IS NULL"
        );
        let of = (server.number(), told.device.as_str(), told.boot.as_str(), time_ms, message);
        let kept = self.connection.prepare_cached(&sql)?.execute(of)? > 0;
        if kept && told.step == BootStep::Script {
            self.forget_boots(server, told.device)?;
        }
        Ok(kept)
    }

    fn forget_boots(self, server: Id<Server>, device: &DeviceName) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "WITH this AS (SELECT d.id FROM servers s JOIN devices d ON d.network_id = s.network_id
                    WHERE s.id = ?1 AND d.name = ?2)
                 DELETE FROM boots WHERE device_id = (SELECT id FROM this) AND boot NOT IN (
                    SELECT boot FROM boots WHERE device_id = (SELECT id FROM this) ORDER BY began_ms DESC LIMIT ?3)",
            )?
            .execute((server.number(), device.as_str(), KEPT))?;
        Ok(())
    }

    /// The last boots of a device, the newest first.
    pub(crate) fn boots_of(self, device: Id<Device>) -> Result<Vec<Boot>, Error> {
        let sql = format!(
            "SELECT {BOOT} FROM boots b LEFT JOIN servers s ON s.id = b.server_id
             WHERE b.device_id = ? ORDER BY b.began_ms DESC LIMIT {KEPT}"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([device.number()], boot)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The boots of a scope that are under way, those that were heard of last first.
    pub(crate) fn live_boots(
        self,
        scope: &Scope,
        now_ms: u64,
        most: usize,
    ) -> Result<Vec<LiveBoot>, Error> {
        let (condition, values) = scope_condition(Owner::Network("b.network_id"), scope);
        let sql = format!(
            "SELECT {BOOT}, d.id, d.name, n.id, n.name FROM boots b JOIN devices d ON d.id = b.device_id
                JOIN networks n ON n.id = b.network_id LEFT JOIN servers s ON s.id = b.server_id
             WHERE {condition} AND b.up_ms IS NULL AND b.failed_ms IS NULL AND b.last_ms > ?
             ORDER BY b.last_ms DESC LIMIT ?"
        );
        let limits = [now_ms.saturating_sub(UNDER_WAY_MS), u64::try_from(most).unwrap_or(1)];
        let limits = limits.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX).into());
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map(params_from_iter(values.into_iter().chain(limits)), |row| {
                Ok(LiveBoot {
                    boot: boot(row)?,
                    device: Id::new(row.get(13)?),
                    name: row.get(14)?,
                    network: Id::new(row.get(15)?),
                    network_name: row.get(16)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How long the boots of a network took that came up in this time, and how many failed in it.
    pub(crate) fn boots_in(
        self,
        network: Id<Network>,
        from_ms: u64,
        until_ms: u64,
    ) -> Result<(Vec<u64>, u64), Error> {
        // A boot that took longer than a day is none.
        let began = from_ms.saturating_sub(24 * 3_600_000);
        let sql = "SELECT up_ms - began_ms FROM boots
            WHERE network_id = ?1 AND began_ms BETWEEN ?2 AND ?4 AND up_ms >= ?3 AND up_ms < ?4";
        let mut statement = self.connection.prepare_cached(sql)?;
        let of = (network.number(), began, from_ms, until_ms);
        let took = statement.query_map(of, |row| row.get(0))?.collect::<Result<_, _>>()?;
        let sql = "SELECT count(*) FROM boots WHERE network_id = ?1 AND began_ms BETWEEN ?2 AND ?4
            AND failed_ms >= ?3 AND failed_ms < ?4 AND up_ms IS NULL";
        let failed = self.connection.prepare_cached(sql)?.query_row(of, |row| row.get(0))?;
        Ok((took, failed))
    }
}
