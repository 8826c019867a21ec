//! Waiting for a condition: never for a time.

use std::time::{Duration, Instant};

/// No condition of a test takes longer, on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until the answer is `Some`; fails the test, with `what` it waited for, when it takes too long.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
