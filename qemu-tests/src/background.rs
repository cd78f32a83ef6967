//! Owns the runtime on which switches run: a test body that blocks its own thread must not stall the LAN.
//! Nothing of a test's own logic runs here.

use std::future::Future;
use std::sync::LazyLock;
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::task::JoinHandle;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(2).thread_name("lan").enable_all().build().expect(
        "a runtime needs only threads and an epoll descriptor, as the test's own runtime did",
    )
});

/// Runs `task` beside the test.
pub(crate) fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    RUNTIME.spawn(task)
}

/// Makes sockets created by this thread belong to the background runtime while the guard lives.
pub(crate) fn enter() -> EnterGuard<'static> {
    RUNTIME.enter()
}
