//! What a process may use: memory, CPU time, open files, CPUs, priority.
//!
//! The new process sets its own limits before it decodes its arguments, so that they hold for everything it does in the
//! name of its starter, and so that they need nothing between fork and exec.

use serde::{Deserialize, Serialize};

use crate::{
    error::Refusal,
    os::{
        self,
        process::{Resource, Rlimit},
        thread::CpuSet,
    },
};

/// Limits of a new process; what is `None` stays as it is in the process that starts it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) address_space: Option<u64>,
    /// In seconds.
    pub(crate) cpu_time: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) cpus: Option<Vec<u32>>,
    pub(crate) nice: Option<i32>,
}

impl Limits {
    /// Makes them those of the calling process.
    pub(crate) fn apply(&self) -> Result<(), Refusal> {
        let refused = |limit: &str| {
            let limit = limit.to_owned();
            move |cause: os::io::Errno| Refusal::Limit { limit, cause: cause.to_string() }
        };
        let set = |resource, soft, hard| {
            os::process::setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })
        };
        if let Some(nice) = self.nice {
            os::process::setpriority_process(None, nice).map_err(refused("nice"))?;
        }
        if let Some(cpus) = &self.cpus {
            let mut set = CpuSet::new();
            for cpu in cpus.iter().filter(|cpu| (**cpu as usize) < CpuSet::MAX_CPU) {
                set.set(*cpu as usize);
            }
            os::thread::sched_setaffinity(None, &set).map_err(refused("CPUs"))?;
        }
        if let Some(seconds) = self.cpu_time {
            // A second between the two: SIGXCPU, which says what happened, comes before SIGKILL, which does not.
            set(Resource::Cpu, seconds, seconds.saturating_add(1)).map_err(refused("CPU time"))?;
        }
        if let Some(files) = self.open_files {
            set(Resource::Nofile, files, files).map_err(refused("open files"))?;
        }
        if let Some(bytes) = self.address_space {
            set(Resource::As, bytes, bytes).map_err(refused("address space"))?;
        }
        Ok(())
    }
}
