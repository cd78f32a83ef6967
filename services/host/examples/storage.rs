//! Drives `host`'s storage modules against a real machine: `storage DISK` makes a pool on a disk that may be destroyed, walks
//! through every step, prints how long each took, and destroys the pool again. Ring 4 runs it inside the agent's image.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use host::{bootfiles, disks, image, zfs};
use model::{
    desired::{ImageFormat, Layout, Source, tree},
    name::{BootId, Dataset, DeviceName, Mark, PoolName, Snapshot},
    observed::GenerationId,
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn done(what: &str, since: Instant) {
    println!("{what} {} ms", since.elapsed().as_millis());
}

macro_rules! timed {
    ($what:expr, $work:expr) => {{
        let since = Instant::now();
        let result = $work;
        done($what, since);
        result
    }};
}

#[tokio::main]
async fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let disk = args.next().ok_or("storage DISK [IMAGE.qcow2]")?;
    let image = args.next().map(PathBuf::from);
    println!("missing programs: {:?}", host::cmd::missing(host::cmd::Program::ALL));
    let pool: PoolName = "proof".parse()?;
    for found in disks::observe().await? {
        println!("disk {found:?}");
    }
    let again = [disk.clone()];
    timed!("create_pool", zfs::apply::create_pool(&pool, Layout::Stripe, &again, &again).await)?;
    folders(&pool).await?;
    let refused = zfs::apply::create_pool(&"other".parse()?, Layout::Stripe, &again, &[]).await;
    println!("create_pool on a disk in use: {}", refused.err().map_or("DONE?!".into(), chain));
    provision(&pool).await?;
    reimport(&pool).await?;
    if let Some(image) = image {
        import(&pool, &image).await?;
    }
    Ok(())
}

fn chain(error: impl std::error::Error + 'static) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

async fn folders(pool: &PoolName) -> Outcome {
    let root = tree::root(pool);
    let mark = |name: &str| Mark::Tree(name.to_owned());
    timed!("create_folder", zfs::apply::create_folder(&root, &mark("clusterducks"), false).await)?;
    for name in tree::FOLDERS {
        zfs::apply::create_folder(&root.child(name), &mark(name), name == "files").await?;
        zfs::apply::create_folder(&root.child(name), &mark(name), name == "files").await?;
    }
    let other = zfs::apply::create_folder(&root.child("files"), &mark("volumes"), true).await;
    println!("create_folder over another's: {}", other.err().map_or("DONE?!".into(), chain));
    Ok(())
}

async fn provision(pool: &PoolName) -> Outcome {
    let volume = tree::volume(pool, &"debian".parse()?);
    let group = tree::group(pool, &"lab".parse()?);
    let mark = Mark::Volume("debian".parse()?);
    timed!("create_zvol", zfs::apply::create_zvol(&volume, &mark, 256 << 20).await)?;
    timed!("grow", zfs::apply::grow(&volume, 512 << 20).await)?;
    let shrunk = zfs::apply::grow(&volume, 256 << 20).await;
    println!("grow to less: {}", shrunk.err().map_or("DONE?!".into(), chain));
    let first = tree::promoted(pool, &"debian".parse()?, 1);
    timed!("take_snapshot", zfs::apply::take_snapshot(&first).await)?;
    timed!("clone", zfs::apply::clone(&first, &group, &Mark::Group("lab".parse()?)).await)?;
    let generation = tree::generation(pool, &"lab".parse()?, 1);
    zfs::apply::take_snapshot(&generation).await?;
    timed!("show_snapshots", zfs::apply::show_snapshots(&group).await)?;
    println!("node of the snapshot is there: {}", Path::new(&generation.device_path()).exists());
    batch(pool, &generation).await?;
    let held = zfs::apply::destroy(&volume, &mark).await;
    println!("destroy with clones: {}", held.err().map_or("DONE?!".into(), chain));
    let lied = zfs::apply::destroy(&volume, &Mark::Volume("other".parse()?)).await;
    println!("destroy with another mark: {}", lied.err().map_or("DONE?!".into(), chain));
    let datasets = timed!("observe_datasets", zfs::observe_datasets().await)?;
    println!("{} datasets; group: {:?}", datasets.len(), datasets.get(&group));
    Ok(())
}

fn device(number: u32) -> Outcome<DeviceName> {
    Ok(format!("pc-{number:02}").parse()?)
}

async fn batch(pool: &PoolName, generation: &Snapshot) -> Outcome {
    let mut clones: BTreeMap<Dataset, BootId> = BTreeMap::new();
    let since = Instant::now();
    for number in 1..=50 {
        let (name, dataset) = (device(number)?, tree::device(pool, &device(number)?));
        zfs::apply::clone(generation, &dataset, &Mark::Device(name.clone())).await?;
        zfs::apply::take_snapshot(&tree::clean(pool, &name)).await?;
        clones.insert(dataset, format!("{number:032x}").parse()?);
    }
    done("50 clones with @clean", since);
    timed!("make_new of 50", zfs::apply::make_new(&clones).await)?;
    let datasets = zfs::observe_datasets().await?;
    let noted = clones.iter().filter(|(name, boot)| {
        datasets.get(*name).is_some_and(|state| state.boot.as_ref() == Some(*boot))
    });
    println!("boots noted: {}", noted.count());
    refusals(pool, clones).await
}

/// One that is open, one that is not there, one with a newer snapshot; the others go on.
async fn refusals(pool: &PoolName, mut clones: BTreeMap<Dataset, BootId>) -> Outcome {
    let open = tree::device(pool, &device(1)?);
    let _held = std::fs::File::open(open.device_path())?;
    let newer = tree::device(pool, &device(2)?);
    zfs::apply::take_snapshot(&Snapshot::new(newer, "later")).await?;
    let fresh: BootId = "f".repeat(32).parse()?;
    clones.insert(tree::device(pool, &"absent".parse()?), fresh.clone());
    clones.insert(tree::root(pool).child("groups").child("lab"), fresh.clone());
    clones.values_mut().for_each(|boot| *boot = fresh.clone());
    let refused = zfs::apply::make_new(&clones).await;
    println!("make_new with bad ones: {}", refused.err().map_or("DONE?!".into(), chain));
    let datasets = zfs::observe_datasets().await?;
    let noted = datasets.values().filter(|state| state.boot.as_ref() == Some(&fresh)).count();
    println!("boots noted beside the bad ones: {noted} of 48");
    Ok(())
}

async fn reimport(pool: &PoolName) -> Outcome {
    use host::cmd::{Cmd, Program};
    let guid = zfs::observe_pools().await?.get(pool).ok_or("no pool")?.guid;
    Cmd::new(Program::Zpool).args(["export", pool.as_str()]).run().await?;
    println!("importable: {:?}", timed!("observe_importable", zfs::observe_importable().await)?);
    println!("disks then: {:?}", disks::observe().await?);
    timed!("import_pool", zfs::apply::import_pool(pool, guid).await)?;
    let files = tree::files(pool);
    let mounted = |all: &BTreeMap<Dataset, model::observed::DatasetState>| {
        all.get(&files).is_some_and(|state| state.mounted)
    };
    println!("files mounted after import: {}", mounted(&zfs::observe_datasets().await?));
    zfs::apply::create_folder(&files, &Mark::Tree("files".to_owned()), true).await?;
    println!("and after create_folder: {}", mounted(&zfs::observe_datasets().await?));
    Ok(())
}

async fn import(pool: &PoolName, path: &Path) -> Outcome {
    let dataset = tree::root(pool).child("volumes").child("guest");
    let size = 4 << 30;
    zfs::apply::create_zvol(&dataset, &Mark::Volume("guest".parse()?), size).await?;
    let sha256 = timed!("sha256", host::digest::sha256(path, |_, _| ()).await)?;
    let location = path.to_string_lossy().into_owned();
    let job = image::Import {
        source: Source { location, format: ImageFormat::Qcow2, sha256 },
        folder: zfs::mount_point(pool.as_str()).join("imports"),
        device: PathBuf::from(dataset.device_path()),
        device_bytes: size,
    };
    timed!("import", image::import(&job, &|_| ()).await)?;
    let snapshot = Snapshot::new(dataset.clone(), "p1");
    zfs::apply::take_snapshot(&snapshot).await?;
    zfs::apply::show_snapshots(&dataset).await?;
    let id = GenerationId { group: "lab".parse()?, number: 1 };
    let folder = zfs::mount_point(pool.as_str()).join("boot");
    let device = PathBuf::from(snapshot.device_path());
    println!("{:?}", timed!("extract", bootfiles::extract(&device, &folder, &id).await)?);
    println!("observed {:?}", bootfiles::observe(&folder)?.keys().collect::<Vec<_>>());
    Ok(())
}
