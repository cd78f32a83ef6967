use super::*;

fn good() -> serde_json::Value {
    serde_json::json!({
        "generation": 1,
        "management": { "interface": { "mac": "52:54:00:00:00:02" }, "address": "192.0.2.5/24", "dns": ["192.0.2.1"] },
        "pools": [{ "name": "tank", "layout": "stripe", "disks": [{ "serial": "A" }] }],
        "networks": [{
            "name": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "10.77.0.1/24",
            "gateway": "10.77.0.1", "dns": ["10.77.0.1"], "domain": "lab.test",
            "dhcp": { "mode": "authoritative", "first": "10.77.0.200", "last": "10.77.0.250" }
        }],
        "volumes": [{ "name": "debian", "pool": "tank", "size_bytes": 1048576,
            "source": { "location": "/dev/vdb", "format": "raw", "sha256": "0".repeat(64) } }],
        "groups": [{ "name": "lab", "volume": "debian", "generations": [1, 2], "production": 1, "kernel_arguments": "" }],
        "vdisks": [{ "name": "home", "pool": "tank", "size_bytes": 1048576 }],
        "menus": [{ "name": "menu", "title": "Lab", "default": 0, "entries": [{ "label": "Debian", "action": "image" }] }],
        "devices": [{
            "name": "pc-01", "macs": ["52:54:00:00:01:01"], "network": "lab", "address": "10.77.0.10",
            "group": "lab", "boot_mode": "overlay", "menu": "menu", "vdisks": [{ "vdisk": "home", "use": "upper" }]
        }]
    })
}

/// Sets one value of the good document, and answers the paths of the faults that follow.
fn faults(pointer: &str, value: serde_json::Value) -> Vec<String> {
    let mut document = good();
    *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    let desired: Desired = serde_json::from_value(document).unwrap();
    validate(&desired).into_iter().map(|fault| fault.path).collect()
}

#[test]
fn a_sound_document_has_no_fault() {
    assert_eq!(validate(&serde_json::from_value(good()).unwrap()), []);
}

#[test]
fn each_fault_is_named_by_its_path() {
    use serde_json::json;
    let device = good()["devices"][0].clone();
    let table = [
        ("/management/dns", json!(["192.0.2.1", "0.0.0.0"]), "management.dns[1]"),
        ("/management/dns", json!(["1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"]), "management.dns"),
        (
            "/management",
            json!({ "interface": { "path": "a" }, "ntp": ["224.0.1.1"] }),
            "management.ntp[0]",
        ),
        (
            "/management",
            json!({ "interface": { "path": "a" }, "gateway": "192.0.2.1" }),
            "management.gateway",
        ),
        (
            "/management",
            json!({ "interface": { "mac": "52:54:00:00:00:01" } }),
            "management.address",
        ),
        ("/pools/0/layout", json!("mirror"), "pools[0].disks"),
        ("/networks/0/address", json!("10.77.0.0/24"), "networks[0].address"),
        ("/networks/0/gateway", json!("10.78.0.1"), "networks[0].gateway"),
        ("/networks/0/domain", json!("lab\ndhcp-script=/x"), "networks[0].domain"),
        ("/networks/0/dhcp/first", json!("10.77.0.251"), "networks[0].dhcp"),
        ("/volumes/0/pool", json!("other"), "volumes[0].pool"),
        ("/volumes/0/size_bytes", json!(1000), "volumes[0].size_bytes"),
        ("/volumes/0/source/location", json!("file:///etc/passwd"), "volumes[0].source.location"),
        ("/groups/0/volume", json!("other"), "groups[0].volume"),
        ("/groups/0/generations", json!([2, 1]), "groups[0].generations"),
        ("/groups/0/production", json!(3), "groups[0].production"),
        ("/groups/0/kernel_arguments", json!("quiet cd.token=1"), "groups[0].kernel_arguments"),
        ("/groups/0/kernel_arguments", json!("a=${uuid}"), "groups[0].kernel_arguments"),
        ("/menus/0/default", json!(1), "menus[0].default"),
        ("/menus/0/entries/0/label", json!("x\nshell"), "menus[0].entries[0].label"),
        ("/devices/0/network", json!("other"), "devices[0].network"),
        ("/devices/0/address", json!("10.77.0.1"), "devices[0].address"),
        ("/devices/0/address", json!("10.77.0.210"), "devices[0].address"),
        ("/devices/0/group", json!("other"), "devices[0].group"),
        ("/devices/0/boot_mode", json!("ephemeral"), "devices[0].vdisks[0].use"),
        (
            "/devices/0/vdisks/0",
            json!({ "vdisk": "home", "use": "mount", "path": "/a/../b" }),
            "devices[0].vdisks[0].path",
        ),
        (
            "/devices/0/macs",
            json!(["52:54:00:00:01:01", "52:54:00:00:01:01"]),
            "devices[0].macs[1]",
        ),
    ];
    for (pointer, value, path) in table {
        assert_eq!(faults(pointer, value.clone()), [path], "{pointer} = {value}");
    }
    let twice = faults("/devices", json!([device, device]));
    assert_eq!(
        twice,
        [
            "devices[1].name",
            "devices[1].macs[0]",
            "devices[1].address",
            "devices[1].vdisks[0].vdisk"
        ]
    );
}

#[test]
fn what_the_document_still_asks_for_can_not_be_destroyed() {
    let mut desired: Desired = serde_json::from_value(good()).unwrap();
    desired.destroy = vec![
        "vdisk:home".parse().unwrap(),
        "tree:files".parse().unwrap(),
        "vdisk:old".parse().unwrap(),
    ];
    let paths: Vec<_> = validate(&desired).into_iter().map(|fault| fault.path).collect();
    assert_eq!(paths, ["destroy[0]", "destroy[1]"]);
}
