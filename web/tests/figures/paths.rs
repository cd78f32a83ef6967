//! What is asked for: every page and every answer of the route table, of the site in the middle, and the lists narrowed down.

use std::collections::BTreeMap;

use axum::http::Method;
use clusterducks_panel::{
    api::PREFIX,
    routes::{Door, table},
};
use panel::{
    noun::{Group, Menu, Subnet, Tunnel, User, Vdisk, Volume},
    operations::Kind,
    store::{BookedQuery, ListQuery},
};

use crate::{
    rig::ROOT,
    site::{Fleet, NETWORKS},
};

/// No page: two are files, one never ends, and the others lead elsewhere whoever is signed in.
const LEFT_OUT: [&str; 7] = [
    "/static/{file}",
    "/account/certificates/{serial}/pem",
    "/events",
    "/first-start",
    "/first-start/restore",
    "/sign-in",
    "/sign-in/code",
];

/// How lists of devices are narrowed down, on pages and by programs.
const DEVICES: [&str; 8] = [
    "sort=address",
    "sort=address&descending=true",
    "descending=true",
    "q=49-09",
    "q=52:54:00:01:31",
    "q=127.0.149.77",
    "group=exam&boot_mode=persistent",
    "menu=main",
];

impl Fleet {
    /// The pages.
    pub(crate) fn pages(&self) -> Vec<String> {
        let mut paths = self.gets(|door| matches!(door, Door::Open | Door::SignedIn), &LEFT_OUT);
        let devices = format!("/networks/{}/devices", self.networks[NETWORKS / 2].network);
        paths.extend(DEVICES.iter().map(|asked| format!("{devices}?{asked}")));
        paths.extend(
            ["pc-4", "agent", "52:54:00:01:31:10", "nothing"]
                .map(|text| format!("/search?q={text}")),
        );
        paths.push("/users?q=tina-4&sort=name&descending=1".to_owned());
        paths.push("/networks?q=room-4&sort=name&descending=1".to_owned());
        paths
    }

    /// What programs ask for.
    pub(crate) fn api(&self) -> Vec<String> {
        let endless = format!("{PREFIX}/events");
        let mut paths = self.gets(|door| door == Door::Api, &[&endless]);
        for asked in DEVICES.iter().chain(&["limit=200", "subnet=lab&limit=200"]) {
            paths.push(format!("{PREFIX}/devices?{asked}"));
        }
        for asked in [
            "users?q=tina-4",
            "users?standing=member&descending=true",
            "networks?q=room-4&descending=true",
            "networks?organization=School%204",
            "servers?q=agent-4",
            "servers?role=both&limit=200",
            "vdisks?server=agent-44",
            "vdisks?q=home-009&limit=200",
            "groups?volume=debian&limit=200",
            "volumes?pool=tank&descending=true",
            "search?q=pc-4",
        ] {
            paths.push(format!("{PREFIX}/{asked}"));
        }
        paths
    }

    fn gets(&self, door: impl Fn(Door) -> bool, left_out: &[&str]) -> Vec<String> {
        let numbers = self.numbers();
        let gets = table().into_iter().filter(|route| route.method == Method::GET);
        let wanted =
            gets.filter(|route| door(route.door) && !left_out.contains(&route.path.as_str()));
        let filled = wanted.map(|route| {
            let own = route.path.strip_prefix(PREFIX).unwrap_or(&route.path);
            let number =
                numbers.get(own.split('/').nth(1).unwrap()).copied().unwrap_or(1).to_string();
            let path = route.path.replace("{id}", &number).replace("{network}", &number);
            path.replace("{serial}", &self.serial()).replace("{code}", &self.code())
        });
        // The list of all that is found by nothing is nothing.
        filled.filter(|path| path != &format!("{PREFIX}/search")).collect()
    }

    /// The number of the record that stands for all of its noun.
    fn numbers(&self) -> BTreeMap<&'static str, i64> {
        let site = &self.networks[NETWORKS / 2];
        BTreeMap::from([
            ("organizations", site.organization.number()),
            ("users", self.last::<User>()),
            ("networks", site.network.number()),
            ("subnets", self.last::<Subnet>()),
            ("tunnels", self.last::<Tunnel>()),
            ("servers", site.server.number()),
            ("volumes", self.last::<Volume>()),
            ("groups", self.last::<Group>()),
            ("vdisks", self.last::<Vdisk>()),
            ("menus", self.last::<Menu>()),
            ("devices", site.device.number()),
            ("channels", self.panel().channels(ROOT).unwrap()[0].id),
        ])
    }

    fn last<T: Kind>(&self) -> i64 {
        let last = ListQuery { descending: true, ..ListQuery::default() };
        self.panel().list::<T>(ROOT, &last).unwrap().rows[0].id.number()
    }

    fn serial(&self) -> String {
        self.panel().issued(ROOT, &BookedQuery::default()).unwrap().rows[0].serial.to_string()
    }

    fn code(&self) -> String {
        self.panel().waiting_joins(ROOT).unwrap()[0].code.to_string()
    }
}
