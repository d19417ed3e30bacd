//! What the command line asks for.

use crate::Failure;
use crate::contender::{CONTENDERS, Contender};

pub(crate) const HELP: &str = "\
cargo bench -p childminder [-- [BENCHMARK…] [OPTION…]]

Benchmarks (default: all)
  start        a child that does nothing, one that takes 1 ms, one that takes 5 ms
  large-owner  the same start in an owner with 2 GiB resident, against a small owner
  stop         from the drop of a run until its whole tree is dead and reaped
  stream       1 GiB of output
  many         1,000 runs at once: time, CPU, descriptors, memory
  idle         wake-ups while a child hangs
  messages     400,000 messages of an agent
  tracking     what the registry adds to a run of 1 ms

Options
  --times K            K times as many rounds as usual (default 1)
  --only TEXT          only contenders whose name has TEXT in it, and tokio; can be given again
  --runtime multi      the owner's runtime has a worker for each processor (default) …
  --runtime current    … or just the owner's thread
  --nohup              the owner ignores hang-ups, as it does when it is started by nohup
";

pub(crate) const NOHUP: &str = "--nohup";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Benchmark {
    Start,
    LargeOwner,
    Stop,
    Stream,
    Many,
    Idle,
    Messages,
    Tracking,
}

impl Benchmark {
    pub(crate) const ALL: [(&str, Self); 8] = [
        ("start", Self::Start),
        ("large-owner", Self::LargeOwner),
        ("stop", Self::Stop),
        ("stream", Self::Stream),
        ("many", Self::Many),
        ("idle", Self::Idle),
        ("messages", Self::Messages),
        ("tracking", Self::Tracking),
    ];
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    benchmarks: Vec<Benchmark>,
    times: usize,
    only: Vec<String>,
    current_thread: bool,
    nohup: bool,
    /// Not started by `cargo bench`, but by `cargo test`: each thing once, to see that it works.
    once: bool,
    /// To hand over to the processes that do the work.
    words: Vec<String>,
}

impl Options {
    pub(crate) fn parse(words: Vec<String>) -> Result<Self, Failure> {
        let mut options = Self {
            benchmarks: Vec::new(),
            times: 1,
            only: Vec::new(),
            current_thread: false,
            nohup: false,
            once: true,
            words: words.clone(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--bench" => options.once = false,
                "--times" => options.times = value()?.parse()?,
                "--only" => options.only.push(value()?),
                NOHUP => options.nohup = true,
                "--runtime" => {
                    options.current_thread = match value()?.as_str() {
                        "multi" => false,
                        "current" => true,
                        other => {
                            return Err(format!("there is no runtime {other:?}: multi or current").into());
                        }
                    }
                }
                name => match Benchmark::ALL.iter().find(|(known, _)| *known == name) {
                    Some((_, benchmark)) => options.benchmarks.push(*benchmark),
                    None => return Err(format!("{name:?} is neither a benchmark nor an option").into()),
                },
            }
        }
        Ok(options)
    }

    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    pub(crate) fn wants(&self, benchmark: Benchmark) -> bool {
        self.benchmarks.is_empty() || self.benchmarks.contains(&benchmark)
    }

    pub(crate) fn once(&self) -> bool {
        self.once
    }

    /// How many rounds, where it is usually this many.
    pub(crate) fn rounds(&self, usual: usize) -> usize {
        if self.once { 1 } else { usual * self.times }
    }

    /// Who takes part. tokio always does: it is what the others are compared with.
    pub(crate) fn contenders(&self) -> Vec<(&'static str, Contender)> {
        let wanted =
            |name: &str| self.only.is_empty() || self.only.iter().any(|text| name.contains(text.as_str()));
        let takes_part =
            |(name, contender): &(&str, Contender)| *contender == Contender::Tokio || wanted(name);
        CONTENDERS.iter().copied().filter(takes_part).collect()
    }

    pub(crate) fn owner(&self) -> String {
        let runtime = if self.current_thread { "current thread" } else { "multi-thread" };
        let signals = if self.nohup { "ignores hang-ups" } else { "default dispositions" };
        format!("runtime {runtime}, {signals}")
    }

    pub(crate) fn runtime(&self) -> Result<tokio::runtime::Runtime, Failure> {
        let mut builder = if self.current_thread {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        Ok(builder.enable_all().build()?)
    }
}
