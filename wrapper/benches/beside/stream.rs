//! How fast a child's output comes through: zeros in pieces of 64 KiB.

use std::process::Stdio;
use std::time::Instant;

use childminder::{Containment, Event, Output};
use processkit::{OutputBufferPolicy, StdioMode};
use tokio::io::AsyncReadExt;

use crate::Failure;
use crate::child::Child;
use crate::contender::Contender;
use crate::options::Options;
use crate::table::{self, Rounds, Row};

const MIB: u64 = 1024;
const ROUNDS: usize = 6;

#[derive(Clone, Copy)]
enum Way {
    /// Read piece by piece, and counted.
    TokioLoop,
    /// Taken event by event, and counted.
    Streamed(Containment),
    /// The first 16 MiB kept, as is the default, and the rest counted.
    Captured(Containment),
    /// The same.
    ProcesskitCaptured,
}

pub(crate) fn own(options: &Options) -> Result<(), Failure> {
    options.runtime()?.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let mib = if options.once() { 16 } else { MIB };
    let child = Child::that(&format!("zeros:{mib}"))?;
    let nothing = Child::that("")?;
    let mut ways = vec![(Row::new("tokio, read loop"), Way::TokioLoop)];
    for (name, contender) in options.contenders() {
        match contender {
            Contender::Childminder(containment) => {
                for (how, way) in
                    [("streamed", Way::Streamed(containment)), ("captured", Way::Captured(containment))]
                {
                    let mut row = Row::new(format!("{name}, {how}"));
                    row.remark = contender.refusal(&nothing).await;
                    ways.push((row, way));
                }
            }
            Contender::Processkit => ways.push((Row::new("processkit, captured"), Way::ProcesskitCaptured)),
            // Their output is tokio's.
            Contender::Tokio | Contender::ProcessWrap(_) => {}
        }
    }
    let able: Vec<usize> = (0..ways.len()).filter(|&way| ways[way].0.remark.is_none()).collect();
    let mut rounds = Rounds::new(options.rounds(ROUNDS), ROUNDS).at_least(options.rounds(ROUNDS));
    while let Some(order) = rounds.next(able.len()) {
        for turn in order {
            let (row, way) = &mut ways[able[turn]];
            let from = Instant::now();
            let total = way.run(&child).await?;
            row.samples.push(from.elapsed().as_secs_f64());
            if total.is_some_and(|total| total != mib << 20) {
                return Err(format!("{}: {total:?} bytes came through", row.name).into());
            }
        }
    }
    let rows: Vec<Row> = ways.into_iter().map(|(row, _)| row).collect();
    let show = |seconds| format!("{:.2} GB/s", (mib << 20) as f64 / seconds / 1e9);
    table::print(&format!("stream: {mib} MiB, by time"), &rows, show);
    Ok(())
}

impl Way {
    /// How many bytes came through, if that is told.
    async fn run(self, child: &Child) -> Result<Option<u64>, Failure> {
        match self {
            Self::TokioLoop => read_loop(child).await.map(Some),
            Self::Streamed(containment) => {
                let mut run = minded(child, containment, Output::Streamed).start()?;
                let mut total = 0;
                while let Some(event) = run.next_event().await {
                    if let Event::Stdout(bytes) = event {
                        total += bytes.len() as u64;
                    }
                }
                if run.wait().await.success() { Ok(Some(total)) } else { Err("the child has failed".into()) }
            }
            Self::Captured(containment) => {
                let outcome = minded(child, containment, Output::Captured).run().await?;
                if outcome.success() {
                    Ok(Some(outcome.stdout.total))
                } else {
                    Err("the child has failed".into())
                }
            }
            Self::ProcesskitCaptured => {
                let command = processkit::Command::new(&child.program).args(&child.arguments);
                let command = command.stdout(StdioMode::Piped).stderr(StdioMode::Null);
                let limit = OutputBufferPolicy::unbounded().with_max_bytes(16 << 20);
                let result = command.output_buffer(limit).output_bytes().await?;
                if result.code() == Some(0) { Ok(None) } else { Err("the child has failed".into()) }
            }
        }
    }
}

async fn read_loop(child: &Child) -> Result<u64, Failure> {
    let mut command = tokio::process::Command::new(&child.program);
    command.args(&child.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.kill_on_drop(true).spawn()?;
    let mut stdout = running.stdout.take().ok_or("no pipe from the child")?;
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match stdout.read(&mut buffer).await? {
            0 => break,
            count => total += count as u64,
        }
    }
    if running.wait().await?.success() { Ok(total) } else { Err("the child has failed".into()) }
}

fn minded(child: &Child, containment: Containment, stdout: Output) -> childminder::Command {
    let mut command = childminder::Command::new(&child.program);
    command.args(&child.arguments).containment(containment).stdout(stdout).stderr(Output::Null);
    command
}
