use super::*;

fn config() -> Config {
    Config {
        port: 22,
        host_key: "/data/sshd/ssh_host_ed25519_key".into(),
        keys_command: "/usr/bin/clusterducks-tunnel keys --".to_owned(),
        keys_user: "clusterducks-keys".to_owned(),
        forwarding_users: "a*".to_owned(),
        commanded_user: "join".to_owned(),
        commanded_command: "/usr/bin/clusterducks-tunnel relay".to_owned(),
    }
}

#[test]
fn the_configuration_is_this_to_the_letter() {
    assert_eq!(render(&config()), include_str!("../../testdata/sshd/sshd_config"));
}

#[test]
fn no_keyword_stands_twice_above_the_match_where_the_second_would_be_dead() {
    let text = render(&config());
    let (global, _) = text.split_once("\nMatch ").unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for line in global.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (keyword, _) = line.split_once(' ').unwrap();
        assert!(seen.insert(keyword.to_lowercase()), "{keyword}");
    }
}

#[tokio::test]
async fn a_host_key_is_made_once_and_its_public_half_again() {
    if let [missing, ..] = cmd::missing(&[Program::SshKeygen]).as_slice() {
        panic!("this test needs {missing}");
    }
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("ssh_host_ed25519_key");
    // What a power cut in the middle of the first try left.
    std::fs::File::create(folder.path().join("ssh_host_ed25519_key.new")).unwrap();
    assert_eq!(ensure_host_key(&key).await.unwrap(), Change::Changed);
    // An empty comment is a blank.
    let public = || std::fs::read_to_string(public_half(&key)).unwrap().trim_end().to_owned();
    let made = public();
    assert!(made.starts_with("ssh-ed25519 "), "{made}");
    assert_eq!(ensure_host_key(&key).await.unwrap(), Change::Unchanged);
    std::fs::remove_file(public_half(&key)).unwrap();
    assert_eq!(ensure_host_key(&key).await.unwrap(), Change::Changed);
    assert_eq!(public(), made);
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]);
}
