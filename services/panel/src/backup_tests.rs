use super::*;
use proptest::prelude::*;

type Parts = Vec<(String, Vec<u8>)>;

fn manifest_of(parts: &[(String, Vec<u8>)]) -> Manifest {
    let part = |(name, bytes): &(String, Vec<u8>)| Part {
        name: name.clone(),
        size_bytes: bytes.len() as u64,
    };
    Manifest::new("0.1.0", 1_795_000_000, parts.iter().map(part).collect())
}

/// Locked with the least work, or a thousand backups would take an hour.
fn make(parts: &[(String, Vec<u8>)], manifest: &Manifest) -> Vec<u8> {
    let mut writer = Writer::begin_with(Vec::new(), "pass phrase".into(), manifest, 1).unwrap();
    for (name, bytes) in parts {
        writer.part(name, &bytes[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn restore(file: &[u8], pass_phrase: &str) -> Result<(Manifest, Parts), Error> {
    let mut parts = Parts::new();
    let manifest = read(file, pass_phrase.into(), |_, part, from| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes)?;
        parts.push((part.name.clone(), bytes));
        Ok(())
    })?;
    Ok((manifest, parts))
}

fn sample() -> Parts {
    // More than one chunk of age (64 KiB), of bytes that don't pack.
    let mut noise = vec![0; 70_000];
    rand::fill(&mut noise[..]);
    vec![("panel.sqlite".to_owned(), noise), ("box.key".to_owned(), vec![7; 32])]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn what_goes_in_comes_out(parts in proptest::collection::btree_map(
        "[a-z][a-z.]{0,20}", proptest::collection::vec(any::<u8>(), 0..100_000), 0..4,
    )) {
        let parts: Parts = parts.into_iter().collect();
        let manifest = manifest_of(&parts);
        let file = make(&parts, &manifest);
        prop_assert_eq!(inspect(&file[..], "pass phrase".into()).unwrap(), manifest.clone());
        prop_assert_eq!(restore(&file, "pass phrase").unwrap(), (manifest, parts));
    }
}

#[test]
fn another_pass_phrase_opens_nothing() {
    let parts = sample();
    let file = make(&parts, &manifest_of(&parts));
    assert!(matches!(restore(&file, "pass phrasf"), Err(Error::WrongPassPhrase)));
    assert!(matches!(inspect(&file[..], "".into()), Err(Error::WrongPassPhrase)));
    assert!(!file.windows(8).any(|part| part == b"manifest"));
}

#[test]
fn a_backup_that_is_cut_off_anywhere_is_never_taken_for_whole() {
    let parts = sample();
    let file = make(&parts, &manifest_of(&parts));
    let near_the_end = file.len().saturating_sub(5)..file.len();
    for length in (0..file.len()).step_by(4999).chain((0..250).step_by(3)).chain(near_the_end) {
        let restored = restore(&file[..length], "pass phrase");
        let told = match &restored {
            Err(Error::NotABackup(_)) => length < 250,
            Err(Error::Damaged(_)) => length > 100,
            _ => false,
        };
        assert!(told, "{length} of {}: {restored:?}", file.len());
    }
}

#[test]
fn a_changed_byte_anywhere_is_seen() {
    let parts = sample();
    let file = make(&parts, &manifest_of(&parts));
    for place in (0..file.len()).step_by(4999).chain((0..250).step_by(3)) {
        let mut changed = file.clone();
        changed[place] ^= 1;
        let restored = restore(&changed, "pass phrase");
        let told = match &restored {
            Err(Error::NotABackup(_) | Error::WrongPassPhrase) => place < 250,
            Err(Error::Damaged(_)) => true,
            _ => false,
        };
        assert!(told, "byte {place}: {restored:?}");
    }
    let longer = [&file[..], b"x"].concat();
    assert!(matches!(restore(&longer, "pass phrase"), Err(Error::Damaged(_))));
}

#[test]
fn a_file_of_another_kind_is_no_backup() {
    for file in [&b""[..], b"SQLite format 3\0", &[0x28, 0xb5, 0x2f, 0xfd]] {
        assert!(matches!(restore(file, "pass phrase"), Err(Error::NotABackup(_))));
    }
}

#[test]
fn a_newer_backup_is_refused_by_its_number() {
    let mut manifest = manifest_of(&[]);
    manifest.format = 2;
    let file = make(&[], &manifest);
    assert!(matches!(restore(&file, "pass phrase"), Err(Error::Newer(2))));
}

#[test]
fn only_what_was_announced_is_written_and_all_of_it() {
    let manifest = manifest_of(&sample());
    let begin = || Writer::begin_with(Vec::new(), "x".into(), &manifest, 1).unwrap();
    let wrong = begin().part("box.key", &[7; 32][..]);
    assert!(matches!(wrong, Err(Error::Unannounced(name)) if name == "box.key"));
    let short = begin().part("panel.sqlite", &[7; 32][..]);
    assert!(matches!(short, Err(Error::Unannounced(name)) if name == "panel.sqlite"));
    assert!(matches!(begin().finish(), Err(Error::Unannounced(name)) if name == "panel.sqlite"));
}

#[test]
fn a_full_disk_is_told_from_a_damaged_backup() {
    let parts = sample();
    let file = make(&parts, &manifest_of(&parts));
    let full = |_: &Manifest, _: &Part, _: &mut dyn Read| Err(io::ErrorKind::StorageFull.into());
    assert!(matches!(read(&file[..], "pass phrase".into(), full), Err(Error::Take(_))));
}

#[test]
fn a_backup_costs_a_guesser_what_is_stated() {
    let manifest = manifest_of(&[]);
    let writer = Writer::begin(Vec::new(), "x".into(), &manifest).unwrap();
    let file = writer.finish().unwrap();
    let head = String::from_utf8_lossy(&file[..80]).into_owned();
    assert!(
        head.starts_with("age-encryption.org/v1\n-> scrypt ") && head.contains(" 16\n"),
        "{head}"
    );
}
