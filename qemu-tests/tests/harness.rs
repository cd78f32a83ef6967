//! The harness itself, on the tiny guest: channels, power, the LAN between two guests, saved states.

use anyhow::Result;
use qemu_tests::{
    DiskSpec, HostService, Image, Lan, SITE_GATEWAY, TINY_GUEST_UP as UP, Wan, find_image, secs,
    wait_until,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

fn blank(serial: &str) -> DiskSpec {
    DiskSpec::Blank { size_bytes: 64 << 20, serial: serial.into() }
}

#[tokio::test]
async fn commands_in_the_guest_give_their_status_and_output_and_nothing_else() -> Result<()> {
    let lan = Lan::new("console")?;
    let guest = lan.tiny("guest", 10)?.start().await?;
    guest.expect(UP, secs(30)).await?;
    let said = guest.debug().exec("echo 'it'\\''s'; echo err >&2; exit 7").await?;
    assert_eq!((said.status, said.stdout.as_str()), (7, "it's\nerr\n"));
    let broken = guest.debug().exec("if").await?;
    assert_ne!(broken.status, 0);
    let bytes: Vec<u8> = (0..100_000u32).map(|number| (number * 7 % 251) as u8).collect();
    guest.debug().put("/tmp/a file", &bytes).await?;
    assert_eq!(guest.debug().get("/tmp/a file").await?, bytes);
    lan.passed()
}

#[tokio::test]
async fn late_answers_and_restarted_shells_do_not_confuse_the_console() -> Result<()> {
    let lan = Lan::new("console-noise")?;
    let guest = lan.tiny("guest", 10)?.start().await?;
    guest.debug().ready(secs(30)).await?;
    let late = guest.debug().exec_within("sleep 2; echo late", Duration::from_secs(1)).await;
    assert!(format!("{:#}", late.unwrap_err()).contains("did not end in time"));
    assert_eq!(guest.debug().exec("echo next").await?.stdout, "next\n");

    let killed = guest.debug().exec_within("kill -9 $PPID", Duration::from_secs(3)).await;
    assert!(format!("{:#}", killed.unwrap_err()).contains("did not end in time"));
    assert_eq!(guest.debug().check("echo again").await?, "again\n");
    lan.passed()
}

#[tokio::test]
async fn the_router_leads_out_of_a_site_and_nobody_into_it() -> Result<()> {
    let wan = Wan::new("wan").await?;
    let address = |address: &str, gateway: &str| {
        format!(
            "ip addr flush dev eth0; ip addr add {address}/24 dev eth0; ip route add default via {gateway}"
        )
    };
    let inside = wan.site.tiny("inside", 10)?.start().await?;
    inside.debug().check(&format!("ip route add default via {SITE_GATEWAY}")).await?;
    let office = wan.office.tiny("office", 11)?.start().await?;
    office.debug().check(&address("10.78.0.11", "10.78.0.254")).await?;
    let outside = wan.public.tiny("outside", 12)?.start().await?;
    outside.debug().check(&address("203.0.113.12", "203.0.113.1")).await?;
    // It knows no way back but to the router's own address.
    inside.debug().check("ping -c 3 -W 5 203.0.113.12").await?;
    office.debug().check("ping -c 3 -W 5 203.0.113.12").await?;
    for (from, to) in [(&outside, "10.77.0.10"), (&office, "10.77.0.10"), (&inside, "10.78.0.11")] {
        let ping = from.debug().exec(&format!("ping -c 1 -W 2 {to}")).await?;
        assert_eq!(ping.status, 1, "{to}: {}", ping.stdout);
    }
    wan.site.passed()
}

#[tokio::test]
async fn two_guests_reach_each_other_until_a_port_is_cut() -> Result<()> {
    let lan = Lan::new("two-guests")?;
    let one = lan.tiny("one", 10)?.start().await?;
    let two = lan.tiny("two", 11)?.start().await?;
    two.expect(UP, secs(30)).await?;
    one.debug().check("ping -c 3 -W 5 10.77.0.11").await?;
    two.port(0)?.cut();
    let ping = one.debug().exec("ping -c 1 -W 2 10.77.0.11").await?;
    assert_eq!(ping.status, 1, "{}", ping.stdout);
    two.port(0)?.restore();
    one.debug().check("ping -c 3 -W 5 10.77.0.11").await?;
    lan.passed()
}

#[tokio::test]
async fn a_disk_keeps_over_a_power_cut_what_the_guest_had_flushed() -> Result<()> {
    let lan = Lan::new("power-cut")?;
    let mut guest = lan.tiny("guest", 10)?.disk(blank("data")).start().await?;
    guest.expect(UP, secs(30)).await?;
    assert_eq!(guest.debug().check("cat /sys/block/vda/serial").await?, "data");
    guest.debug().check("echo kept | dd of=/dev/vda bs=512 seek=9 conv=sync,fsync").await?;
    guest.power_cut();
    assert!(!guest.is_on());
    let off = format!("{:#}", guest.debug().exec("true").await.unwrap_err());
    assert!(off.contains("the machine ended") || off.contains("debug port"), "{off}");
    guest.power_on().await?;
    guest.expect(UP, secs(30)).await?;
    let sector = "dd if=/dev/vda bs=512 skip=9 count=1 2>/dev/null | head -c 5";
    assert_eq!(guest.debug().check(sector).await?, "kept\n");
    guest.qmp().reset().await?;
    guest.expect(UP, secs(30)).await?;
    lan.passed()
}

#[tokio::test]
async fn a_wait_for_a_machine_that_panics_fails_at_once() -> Result<()> {
    let lan = Lan::new("panic")?;
    let guest = lan.tiny("guest", 10)?.start().await?;
    guest.expect(UP, secs(30)).await?;
    guest.debug().exec_within("echo c >/proc/sysrq-trigger", secs(1)).await.unwrap_err();
    let started = Instant::now();
    let failure = format!("{:#}", guest.expect("never written", secs(60)).await.unwrap_err());
    assert!(failure.contains("Kernel panic"), "{failure}");
    assert!(started.elapsed() < secs(30));
    lan.passed()
}

#[tokio::test]
async fn machines_restored_from_one_state_at_once_go_on_where_it_was_saved() -> Result<()> {
    let lan = Lan::new("saved-state")?;
    let guest = lan.tiny("guest", 10)?.disk(blank("data")).saveable().start().await?;
    guest.expect(UP, secs(30)).await?;
    guest.debug().check("echo remembered >/tmp/note; echo disk | dd of=/dev/vda conv=sync").await?;
    let state = guest.save(&lan.workspace().path().join("state")).await?;
    assert!(state.size_bytes()? < 256 << 20);

    let lans = [Lan::new("restored-1")?, Lan::new("restored-2")?];
    let first = lans[0].restore(&state, Vec::new())?.start().await?;
    let second = lans[1].restore(&state, Vec::new())?.start().await?;
    for (guest, word) in [(&first, "first"), (&second, "second")] {
        guest.debug().set_clock().await?;
        let found = guest.debug().check("cat /tmp/note; head -c 5 /dev/vda").await?;
        assert_eq!(found, "remembered\ndisk\n");
        let write = format!("echo {word} >/tmp/note; echo {word} | dd of=/dev/vda conv=sync,fsync");
        guest.debug().check(&write).await?;
    }
    assert_eq!(first.debug().check("cat /tmp/note; head -c 6 /dev/vda").await?, "first\nfirst\n");
    let peer = lans[1].tiny("peer", 11)?.start().await?;
    peer.debug().check("ping -c 2 -W 5 10.77.0.10").await?;
    for lan in &lans {
        lan.passed()?;
    }
    lan.passed()
}

#[tokio::test]
async fn a_guest_reaches_the_one_service_of_the_host_that_it_was_given() -> Result<()> {
    let lan = Lan::new("host-service")?;
    let socket = lan.workspace().socket_path();
    let listener = UnixListener::bind(&socket)?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        }
    });
    let service = HostService { address: "10.0.2.100:80".into(), socket };
    let guest = lan.tiny("guest", 10)?.host_service(service).start().await?;
    guest.debug().check("ip addr add 10.0.2.15/24 dev eth1").await?;
    for _ in 0..2 {
        assert_eq!(guest.debug().check("wget -q -O - http://10.0.2.100/").await?, "hello");
    }
    let other = guest.debug().exec("wget -q -T 2 -O - http://10.0.2.2:22/").await?;
    assert_ne!(other.status, 0);
    lan.passed()
}

#[tokio::test]
async fn a_read_only_disk_can_be_plugged_in_while_the_guest_runs() -> Result<()> {
    let lan = Lan::new("hotplug")?;
    let mut guest = lan.tiny("guest", 10)?.start().await?;
    guest.expect(UP, secs(30)).await?;
    guest.plug_read_only_disk(&find_image(Image::TinyKernel)?, "import").await?;
    let debug = guest.debug();
    wait_until("the guest sees the disk", secs(20), async || {
        // Page 80h, unit serial number (SPC-4, 7.8.15), has four bytes before it.
        let serial = debug.exec("tail -c +5 /sys/block/sda/device/vpd_pg80").await?.stdout;
        Ok((serial == "import").then_some(()))
    })
    .await?;
    assert_eq!(debug.check("cat /sys/block/sda/ro").await?, "1\n");
    lan.passed()
}
