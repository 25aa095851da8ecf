//! What was used between two moments: by the server, by the generator, and by anybody else.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::common::machine::CoreTime;
use super::common::process::{Process, Usage};

/// Readings at the first edge.
pub struct Window {
    process: Option<Process>,
    server: Usage,
    generator: Duration,
    whole_generator: Duration,
    cores: CoreTime,
    core_count: usize,
    began: Instant,
}

/// What lies between the edges.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    pub lasted: Duration,
    /// Of all threads of the server; nothing if it is not a process that can be looked into.
    pub server: Option<Usage>,
    /// CPU time of the calling thread.
    pub generator: Duration,
    /// Share of the cores' time that neither server nor generator had: other programs, and the
    /// hypervisor's.
    pub others: f64,
    /// The hypervisor's part of that.
    pub stolen: f64,
}

impl Window {
    /// Reads everything. The window begins with the last reading.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub fn open(process: Option<Process>) -> io::Result<Window> {
        // A server of a thousand threads takes a while to read: it comes first, and last below.
        let server = process.map(Process::usage).transpose()?.unwrap_or_default();
        Ok(Window {
            process,
            server,
            cores: CoreTime::read(),
            core_count: CoreTime::cores(),
            generator: cpu(ClockId::ThreadCPUTime),
            whole_generator: cpu(ClockId::ProcessCPUTime),
            began: Instant::now(),
        })
    }

    /// Reads everything again.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub fn close(self) -> io::Result<Spent> {
        let lasted = self.began.elapsed();
        let generator = cpu(ClockId::ThreadCPUTime) - self.generator;
        let whole_generator = cpu(ClockId::ProcessCPUTime) - self.whole_generator;
        let cores = CoreTime::read();
        let server = self.process.map(Process::usage).transpose()?;
        let server = server.map(|usage| usage.since(self.server));
        let share = |ticks: f64| ticks / (lasted.as_secs_f64() * self.core_count as f64);
        let busy = (cores.busy - self.cores.busy) as f64 / TICKS_PER_SECOND;
        let ours = server.unwrap_or_default().cpu + whole_generator;
        Ok(Spent {
            lasted,
            server,
            generator,
            others: share(busy - ours.as_secs_f64()).max(0.0),
            stolen: share((cores.stolen - self.cores.stolen) as f64 / TICKS_PER_SECOND),
        })
    }
}

impl Spent {
    /// Gives the server's CPU time for each of `count`, in microseconds.
    pub fn cpu_us(&self, count: u64) -> Option<f64> {
        let server = self.server.filter(|_| count > 0)?;
        Some(server.cpu.as_secs_f64() * 1e6 / count as f64)
    }

    /// Gives a share of one core, in percent.
    pub fn percent(&self, cpu: Duration) -> f64 {
        100.0 * cpu.as_secs_f64() / self.lasted.as_secs_f64()
    }
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

const TICKS_PER_SECOND: f64 = 100.0;
