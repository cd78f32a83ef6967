//! Images are made here without root: `mke2fs -d` fills a file system from a folder, `sgdisk` (package gdisk) writes a GPT.

use std::os::unix::fs::symlink;

use super::*;

const KERNEL: &str = "vmlinuz-6.12.0-10-amd64";
const INITRD: &str = "initrd.img-6.12.0-10-amd64";

fn id() -> GenerationId {
    GenerationId { group: "lab".parse().unwrap(), number: 3 }
}

#[expect(clippy::disallowed_methods, reason = "builds test images; not the product's code")]
fn run(program: &str, args: &[&str]) {
    let output = std::process::Command::new(program).args(args).output();
    let output =
        output.unwrap_or_else(|error| panic!("{program}: {error}; install e2fsprogs, gdisk"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn put(root: &Path, name: &str, content: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    files::write_atomic(&path, content, 0o644).unwrap();
}

/// A root as Debian lays it out.
fn debian(root: &Path) {
    put(root, "usr/lib/os-release", b"ID=debian\n");
    put(root, "etc/hostname", b"golden\n");
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    put(root, &format!("boot/{KERNEL}"), &[b'k'; 300_000]);
    put(root, &format!("boot/{INITRD}"), &[b'i'; 700_000]);
}

fn file_system(root: &Path, image: &Path) {
    let (root, image) = (root.to_str().unwrap(), image.to_str().unwrap());
    run("/usr/sbin/mke2fs", &["-q", "-t", "ext4", "-d", root, image, "16M"]);
}

/// Writes file systems of 16 MiB into the partitions 2, 3, ... of a disk; the first is a boot loader's.
fn whole_disk(systems: &[&Path], disk: &Path) {
    let size = (systems.len() as u64 * 16 + 4) << 20;
    let mut content = vec![0; usize::try_from(size).unwrap()];
    let mut args = vec!["-n1:2048:+1M".to_owned(), "-t1:ef02".to_owned()];
    for (number, system) in systems.iter().enumerate() {
        let start = (number * 16 + 2) << 20;
        let system = fs::read(system).unwrap();
        content[start..start + system.len()].copy_from_slice(&system);
        args.push(format!("-n{}:{}:+16M", number + 2, start / 512));
    }
    files::write_atomic(disk, &content, 0o644).unwrap();
    args.push(disk.to_str().unwrap().to_owned());
    run("/usr/sbin/sgdisk", &args.iter().map(String::as_str).collect::<Vec<_>>());
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn extract(&self, image: &str) -> Result<BootFiles, Error> {
        extract(&self.path(image), &self.path("out"), &id()).await
    }

    fn kept(&self) -> (Vec<u8>, Vec<u8>) {
        let kept = |name| fs::read(self.path("out/lab/3").join(name)).unwrap();
        (kept("vmlinuz"), kept("initrd"))
    }
}

#[tokio::test]
async fn a_bare_file_system_gives_what_debians_links_point_at() {
    let bench = Bench::new();
    let root = bench.path("root");
    debian(&root);
    put(&root, "boot/vmlinuz-6.99.0", b"not this one");
    put(&root, "boot/initrd.img-6.99.0", b"not this one");
    symlink(format!("boot/{KERNEL}"), root.join("vmlinuz")).unwrap();
    symlink(format!("boot/{INITRD}"), root.join("initrd.img")).unwrap();
    file_system(&root, &bench.path("image"));
    let found = bench.extract("image").await.unwrap();
    assert_eq!(found.root_partition, 0);
    assert_eq!(bench.kept(), (vec![b'k'; 300_000], vec![b'i'; 700_000]));
    let hash = digest::sha256(&bench.path("out/lab/3/vmlinuz"), |_, _| ()).await.unwrap();
    assert_eq!(found.kernel_sha256, hash);
    assert_eq!(observe(&bench.path("out")).unwrap(), [(id(), found)].into());
}

#[tokio::test]
async fn the_root_of_a_whole_disk_is_found_and_boot_may_be_a_partition_of_its_own() {
    let bench = Bench::new();
    let (root, boot) = (bench.path("root"), bench.path("boot"));
    debian(&root);
    fs::rename(root.join("boot"), &boot).unwrap();
    fs::create_dir(root.join("boot")).unwrap();
    symlink(format!("boot/{KERNEL}"), root.join("vmlinuz")).unwrap();
    symlink(format!("boot/{INITRD}"), root.join("initrd.img")).unwrap();
    file_system(&boot, &bench.path("boot.ext4"));
    file_system(&root, &bench.path("root.ext4"));
    whole_disk(&[&bench.path("boot.ext4"), &bench.path("root.ext4")], &bench.path("image"));
    let found = bench.extract("image").await.unwrap();
    assert_eq!(found.root_partition, 3);
    assert_eq!(bench.kept(), (vec![b'k'; 300_000], vec![b'i'; 700_000]));
}

#[tokio::test]
async fn an_image_without_linux_fails_by_name_and_leaves_nothing() {
    let bench = Bench::new();
    put(&bench.path("data"), "photo.jpg", b"x");
    file_system(&bench.path("data"), &bench.path("data.ext4"));
    whole_disk(&[&bench.path("data.ext4")], &bench.path("image"));
    let error = bench.extract("image").await.unwrap_err();
    let Error::NoRoot { looked_at } = &error else { panic!("{error:?}") };
    assert_eq!(looked_at, &["(loop0)", "(loop0,gpt1)", "(loop0,gpt2)"]);
    assert_eq!(observe(&bench.path("out")).unwrap(), BTreeMap::new());
}

#[tokio::test]
async fn a_root_without_a_kernel_and_an_empty_kernel_are_told_apart() {
    let bench = Bench::new();
    let root = bench.path("root");
    put(&root, "etc/os-release", b"ID=other\n");
    file_system(&root, &bench.path("image"));
    let error = bench.extract("image").await.unwrap_err();
    assert!(matches!(error, Error::NoKernel), "{error:?}");
    put(&root, "boot/vmlinuz-1", b"");
    put(&root, "boot/initrd-1", b"i");
    file_system(&root, &bench.path("second"));
    let error = bench.extract("second").await.unwrap_err();
    assert!(
        matches!(&error, Error::Empty { file } if file == "(loop0)/boot/vmlinuz-1"),
        "{error:?}"
    );
}

#[tokio::test]
async fn links_that_lead_out_of_the_image_find_nothing() {
    let bench = Bench::new();
    let root = bench.path("root");
    debian(&root);
    fs::remove_dir_all(root.join("boot")).unwrap();
    symlink("(host)/etc/passwd", root.join("vmlinuz")).unwrap();
    symlink("/../../../../../etc/passwd", root.join("initrd.img")).unwrap();
    file_system(&root, &bench.path("image"));
    let error = bench.extract("image").await.unwrap_err();
    assert!(matches!(error, Error::NoKernel), "{error:?}");
}

#[tokio::test]
async fn garbage_fails_its_own_extraction() {
    let bench = Bench::new();
    let noise: Vec<u8> =
        (0..8u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    files::write_atomic(&bench.path("image"), &noise, 0o644).unwrap();
    assert!(matches!(bench.extract("image").await.unwrap_err(), Error::NoRoot { .. }));
    let mut broken = noise;
    let root = bench.path("root");
    debian(&root);
    file_system(&root, &bench.path("sound"));
    // The superblock stays, all that it points at is noise.
    broken[..2048].copy_from_slice(&fs::read(bench.path("sound")).unwrap()[..2048]);
    files::write_atomic(&bench.path("image"), &broken, 0o644).unwrap();
    assert!(matches!(bench.extract("image").await.unwrap_err(), Error::NoRoot { .. }));
}

#[tokio::test]
async fn a_folder_that_is_not_whole_is_not_observed_and_is_made_again() {
    let bench = Bench::new();
    let root = bench.path("root");
    debian(&root);
    file_system(&root, &bench.path("image"));
    put(&bench.path("out"), ".new-lab-3/vmlinuz", b"left by a crash");
    let found = bench.extract("image").await.unwrap();
    assert!(!bench.path("out/.new-lab-3").exists());
    put(&bench.path("out"), "lab/3/initrd", b"cut");
    assert_eq!(observe(&bench.path("out")).unwrap(), BTreeMap::new());
    assert_eq!(bench.extract("image").await.unwrap(), found);
    put(&bench.path("out"), "lab/3/manifest.json", b"{");
    assert_eq!(observe(&bench.path("out")).unwrap(), BTreeMap::new());
}
