//! How fast a child's output comes through, beside a bare loop over tokio's own pipe in the same process.
//!
//! `cargo run --release -p childminder --example throughput [MiB] [rounds]`
//!
//! The two take turns, so that what else the machine does hits both. Printed is the median rate of each, and the median over all
//! rounds of how many times as fast as tokio it was in the same round. Captured output has nothing beside it in tokio: it is compared with the same loop.

#[cfg(target_os = "linux")]
fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let mebibytes: u64 = arguments.next().unwrap_or(1024);
    let rounds = arguments.next().unwrap_or(7) as usize;
    let runtimes = [
        ("current-thread runtime", tokio::runtime::Builder::new_current_thread()),
        ("multi-thread runtime", tokio::runtime::Builder::new_multi_thread()),
    ];
    for (name, mut builder) in runtimes {
        let runtime = builder.enable_all().build().expect("a runtime");
        println!("{name}, {mebibytes} MiB, median of {rounds}");
        compare::all(&runtime, mebibytes * 1024 * 1024, rounds);
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod compare {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use childminder::{Command, Event, Output};
    use tokio::io::AsyncReadExt;
    use tokio::runtime::Runtime;

    const READ_AT_MOST: usize = 64 * 1024;

    pub(super) fn all(runtime: &Runtime, bytes: u64, rounds: usize) {
        let mut took = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            took[0].push(timed(|| runtime.block_on(tokio_reads(bytes))));
            took[1].push(timed(|| runtime.block_on(childminder_streams(bytes))));
            took[2].push(timed(|| runtime.block_on(childminder_captures(bytes))));
        }
        for (name, mine) in ["tokio", "childminder, streamed", "childminder, captured"].iter().zip(&took) {
            let rate = bytes as f64 / median(mine.iter().map(Duration::as_secs_f64)) / 1e9;
            let ratio = median(
                took[0].iter().zip(mine).map(|(tokio, mine)| tokio.as_secs_f64() / mine.as_secs_f64()),
            );
            println!("  {name:<22} {rate:5.2} GB/s  {ratio:4.2} x tokio");
        }
    }

    fn timed(act: impl FnOnce()) -> Duration {
        let before = Instant::now();
        act();
        before.elapsed()
    }

    fn median(figures: impl Iterator<Item = f64>) -> f64 {
        let mut figures: Vec<_> = figures.collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    }

    fn arguments(bytes: u64) -> [String; 3] {
        ["-c".to_owned(), bytes.to_string(), "/dev/zero".to_owned()]
    }

    async fn tokio_reads(bytes: u64) {
        let mut child = tokio::process::Command::new("head")
            .args(arguments(bytes))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut buffer = vec![0; READ_AT_MOST];
        let mut total = 0;
        loop {
            match stdout.read(&mut buffer).await.expect("it can be read") {
                0 => break,
                count => total += count as u64,
            }
        }
        assert!(child.wait().await.expect("it ends").success());
        assert_eq!(total, bytes);
    }

    async fn childminder_streams(bytes: u64) {
        let mut run =
            Command::new("head").args(arguments(bytes)).stdout(Output::Streamed).start().expect("it starts");
        let mut total = 0;
        while let Some(event) = run.next_event().await {
            match event {
                Event::Stdout(chunk) => total += chunk.len() as u64,
                Event::Ended(outcome) => assert!(outcome.success() && outcome.stdout.is_complete()),
                _ => {}
            }
        }
        assert_eq!(total, bytes);
    }

    async fn childminder_captures(bytes: u64) {
        let outcome = Command::new("head").args(arguments(bytes)).run().await.expect("it starts");
        assert!(outcome.success());
        assert_eq!(outcome.stdout.total, bytes);
    }
}
