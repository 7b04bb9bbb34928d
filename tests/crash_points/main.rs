//! The real binary dies at every crash point of `spool::crash`, each twice, and goes on
//! after it as if nothing had been.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "../support/config_file.rs"]
mod config_file;
mod harm;
#[path = "../support/pipeline.rs"]
mod pipeline;
mod plan;
#[path = "../support/process.rs"]
mod process;
mod scene;

use std::sync::Arc;

use sls_relay::spool::crash::POINTS;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use plan::plan;
use scene::Scene;

/// Points that are died at at once; each waits for clocks more than it computes.
const AT_ONCE: usize = 4;
/// A disk that is full cannot be had without privileges: `src/spool/tests/reserve.rs` loses
/// the power there, on a simulated one.
const SIMULATED: [&str; 1] = ["reserve-given-up"];

/// `SLS_RELAY_SEED` repeats a run, `SLS_RELAY_CRASH_SEEDS` makes so many, and
/// `SLS_RELAY_CRASH_POINT` picks one point.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "a release build has no crash points")]
async fn a_relay_that_dies_at_any_crash_point_goes_on_where_it_was() {
    let env = |name| std::env::var(name).ok();
    let number = |name| env(name).and_then(|text| text.parse::<u64>().ok());
    let first = number("SLS_RELAY_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let seeds = number("SLS_RELAY_CRASH_SEEDS").unwrap_or(1);
    let wanted = env("SLS_RELAY_CRASH_POINT");
    let (room, mut deaths) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for seed in first..first + seeds {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for (point, _) in POINTS.iter().filter(|(point, _)| !SIMULATED.contains(point)) {
            for second in [false, true] {
                let (plan, logs) = (plan(point, second, &mut rng), rng.u64(..));
                if wanted.as_deref().is_some_and(|wanted| wanted != *point) {
                    continue;
                }
                let room = Arc::clone(&room);
                deaths.spawn(async move {
                    let _place = room.acquire().await.unwrap();
                    let what = format!("seed {seed}, {point}: {plan:?}");
                    let death = tokio::spawn(Scene::play(point, plan, logs)).await;
                    death.map_err(|error| format!("{what}: {error}"))
                });
            }
        }
    }
    assert!(!deaths.is_empty(), "no such point");
    let mut failed = Vec::new();
    while let Some(death) = deaths.join_next().await {
        failed.extend(death.unwrap().err());
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
