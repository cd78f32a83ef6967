//! The console in a real browser: Debian's chromium, driven over WebDriver. One browser, started once, walks through everything;
//! what it saw lies as pictures in `target/tmp/console/`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "the panel's own tests do more to agents")]
#[path = "../../../services/panel/tests/room/agent.rs"]
mod agent;
mod axe;
mod boot;
mod chromium;
mod keyboard;
mod many;
mod pages;
#[path = "../console/rig.rs"]
#[expect(dead_code, reason = "the console's other tests use the rest")]
mod rig;
mod scriptless;
mod tab;
mod walk;

use crate::{chromium::Chromium, rig::Rig, tab::Tab};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_sets_up_and_runs_a_room_in_a_real_browser() {
    let rig = Rig::new().await;
    let chromium = Chromium::start();
    let mut tab = Tab::open(&chromium, rig.address).await;
    walk::first_start(&rig, &mut tab).await;
    let network = walk::follow_the_guide(&rig, &mut tab).await;
    walk::import(&rig, &mut tab, network).await;
    walk::assign(&rig, &mut tab, network).await;
    walk::overtaken(&rig, &mut tab).await;
    walk::technician(&rig, &mut tab, network).await;
    keyboard::alone(&mut tab, network).await;
    scriptless::walk(&mut tab, network).await;
    let room = boot::set_up(&rig, &mut tab).await;
    room.boot(&mut tab).await;
    pages::one_of_everything(&rig, network).await;
    pages::look_at_all(&rig, &mut tab, network).await;
    walk::sign_out(&tab).await;
    walk::sign_in(&tab, "ada", walk::PASSWORD).await;
    many::devices(&rig, &mut tab, network).await;
    room.revoke(&mut tab).await;
    tab.close().await;
}
