//! What the machine is made of, as the firmware and the kernel tell it in /sys and /proc: for people who have to recognize it.
//! What is not told stays empty; nothing is decided by any of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use model::{
    join::{Fact, Hardware, HardwareDisk, HardwareLink},
    observed::Link,
};

/// Kernel names of drives whose media come and go: optical ones and floppies.
const REMOVABLE: [&str; 2] = ["sr", "fd"];
/// `/sys/block/<disk>/size` counts these, whatever the disk's own are (Documentation/ABI/stable/sysfs-block).
const SECTOR_BYTES: u64 = 512;

/// Looks at the machine below `root`, usually `/`; its network interfaces are known already.
pub fn observe(root: &Path, links: &[Link]) -> Hardware {
    let smbios = |name: &str| text(&root.join("sys/class/dmi/id").join(name));
    let tree = |name: &str| text(&root.join("sys/firmware/devicetree/base").join(name));
    let tree_model = tree("model").unwrap_or_default();
    let (maker, product) = tree_model.split_once(' ').unwrap_or((&tree_model, ""));
    let or = |told: Option<String>, else_: &str| Fact::clip(&told.unwrap_or_else(|| else_.into()));
    let link = |link: &Link| HardwareLink { name: Fact::clip(&link.name), mac: link.mac };
    Hardware {
        manufacturer: or(smbios("sys_vendor"), maker),
        product: or(smbios("product_name"), product),
        serial: or(smbios("product_serial"), &tree("serial-number").unwrap_or_default()),
        uuid: or(smbios("product_uuid"), ""),
        processors: processors(&text(&root.join("proc/cpuinfo")).unwrap_or_default()),
        memory_bytes: memory_bytes(&text(&root.join("proc/meminfo")).unwrap_or_default()),
        links: links.iter().map(link).collect(),
        disks: disks(&root.join("sys/block")),
    }
}

/// A file's text; a device tree ends its strings with a zero byte.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

/// proc_cpuinfo(5) has an entry for each.
fn processors(cpuinfo: &str) -> u32 {
    let entry = |line: &&str| line.split(':').next().is_some_and(|key| key.trim() == "processor");
    u32::try_from(cpuinfo.lines().filter(entry).count()).unwrap_or(u32::MAX)
}

/// proc_meminfo(5): `MemTotal`, in KiB.
fn memory_bytes(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

fn disks(block: &Path) -> Vec<HardwareDisk> {
    let mut folders = folders(block).unwrap_or_default();
    folders.sort();
    folders.iter().filter_map(|folder| disk(folder)).collect()
}

fn folders(block: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(block)?.map(|entry| Ok(entry?.path())).collect()
}

/// What is made by software (loop, dm, md, zvols) stands on no device.
fn disk(folder: &Path) -> Option<HardwareDisk> {
    let name = folder.file_name()?.to_str()?;
    let size_bytes = text(&folder.join("size"))?.parse::<u64>().ok()?.checked_mul(SECTOR_BYTES)?;
    if !folder.join("device").exists() || REMOVABLE.iter().any(|kind| name.starts_with(kind)) {
        return None;
    }
    let of = |names: &[&str]| {
        let told = names.iter().find_map(|name| text(&folder.join(name)));
        Fact::clip(&told.unwrap_or_default())
    };
    // Of disks: virtio has its serial number beside the device, NVMe in it, SCSI and SATA in page 0x80 of their vital product data.
    let mut serial = of(&["serial", "device/serial"]);
    if serial.as_str().is_empty() {
        serial = Fact::clip(&unit_serial(&folder.join("device/vpd_pg80")).unwrap_or_default());
    }
    Some(HardwareDisk { model: of(&["device/model", "device/name"]), serial, size_bytes })
}

/// SCSI's page of the unit's serial number: four bytes of head, whose last is the length (SPC-4, 7.8.15).
fn unit_serial(page: &Path) -> Option<String> {
    let bytes = fs::read(page).ok()?;
    let length = usize::from(*bytes.get(3)?);
    Some(String::from_utf8_lossy(bytes.get(4..)?.get(..length)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        crate::files::write_atomic(&path, content.as_ref(), 0o644).unwrap();
    }

    fn shown(disk: &HardwareDisk) -> (&str, &str, u64) {
        (disk.model.as_str(), disk.serial.as_str(), disk.size_bytes)
    }

    #[test]
    fn a_server_is_known_by_its_firmware_and_its_kernel() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "sys/class/dmi/id/sys_vendor", "QEMU\n");
        put(root, "sys/class/dmi/id/product_name", "Standard PC\n");
        put(root, "sys/class/dmi/id/product_serial", "\n");
        put(root, "proc/cpuinfo", "processor\t: 0\nmodel name\t: a processor\nprocessor\t: 1\n");
        put(root, "proc/meminfo", "MemTotal:        4010420 kB\nMemFree:  1 kB\n");
        put(root, "sys/block/sda/size", "2048\n");
        put(root, "sys/block/sda/device/model", "DISK 1        \n");
        put(root, "sys/block/sda/device/vpd_pg80", b"\0\x80\0\x06  S4X1rest");
        put(root, "sys/block/vda/size", "4096\n");
        put(root, "sys/block/vda/serial", "pool0");
        put(root, "sys/block/vda/device/vendor", "0x1af4\n");
        put(root, "sys/block/loop0/size", "2048\n");
        put(root, "sys/block/sr0/size", "2048\n");
        put(root, "sys/block/sr0/device/model", "DVD\n");
        let seen = observe(root, &[]);
        assert_eq!(
            (seen.manufacturer.as_str(), seen.product.as_str(), seen.serial.as_str()),
            ("QEMU", "Standard PC", "")
        );
        assert_eq!((seen.processors, seen.memory_bytes), (2, 4_010_420 << 10));
        let disks: Vec<_> = seen.disks.iter().map(shown).collect();
        assert_eq!(disks, [("DISK 1", "S4X1", 1 << 20), ("", "pool0", 2 << 20)]);
    }

    #[test]
    fn a_board_without_smbios_is_known_by_its_device_tree() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "sys/firmware/devicetree/base/model", "Raspberry Pi 5 Model B Rev 1.0\0");
        put(root, "sys/firmware/devicetree/base/serial-number", "10000000abcdef01\0");
        let seen = observe(root, &[]);
        assert_eq!(seen.manufacturer.as_str(), "Raspberry");
        assert_eq!(seen.product.as_str(), "Pi 5 Model B Rev 1.0");
        assert_eq!(seen.serial.as_str(), "10000000abcdef01");
    }
}
