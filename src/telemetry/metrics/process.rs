//! The process and its run time: looked up when somebody asks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::count;
use opentelemetry::{KeyValue, metrics::Meter};
use opentelemetry_semantic_conventions::metric::{
    PROCESS_CPU_TIME, PROCESS_MEMORY_USAGE, PROCESS_THREAD_COUNT, PROCESS_UNIX_FILE_DESCRIPTOR_COUNT,
    PROCESS_UPTIME,
};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::runtime::{Handle, RuntimeMetrics};

pub(super) fn observe(meter: &Meter) {
    process(meter);
    if let Ok(runtime) = Handle::try_current() {
        run_time(meter, &runtime);
    }
}

/// What the system knows of this process.
struct Process {
    system: Mutex<System>,
    id: Pid,
}

impl Process {
    fn look<T>(&self, what: ProcessRefreshKind, read: impl FnOnce(&sysinfo::Process) -> T) -> Option<T> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[self.id]), true, what);
        system.process(self.id).map(read)
    }
}

fn process(meter: &Meter) {
    let Ok(id) = sysinfo::get_current_pid() else { return };
    let process = Arc::new(Process { system: Mutex::new(System::new()), id });
    let began = Instant::now();
    let of = Arc::clone(&process);
    meter
        .f64_observable_counter(PROCESS_CPU_TIME)
        .with_unit("s")
        .with_description("CPU time used")
        .with_callback(move |observer| {
            let millis =
                of.look(ProcessRefreshKind::nothing().with_cpu(), sysinfo::Process::accumulated_cpu_time);
            millis.into_iter().for_each(|millis| {
                observer.observe(std::time::Duration::from_millis(millis).as_secs_f64(), &[])
            });
        })
        .build();
    let of = Arc::clone(&process);
    meter
        .u64_observable_gauge(PROCESS_MEMORY_USAGE)
        .with_unit("By")
        .with_description("Physical memory in use")
        .with_callback(move |observer| {
            let bytes = of.look(ProcessRefreshKind::nothing().with_memory(), sysinfo::Process::memory);
            bytes.into_iter().for_each(|bytes| observer.observe(bytes, &[]));
        })
        .build();
    let of = Arc::clone(&process);
    meter
        .u64_observable_gauge(PROCESS_THREAD_COUNT)
        .with_unit("{thread}")
        .with_description("Threads")
        .with_callback(move |observer| {
            let threads = of.look(ProcessRefreshKind::nothing().with_tasks(), |process| {
                process.tasks().map(|tasks| tasks.len())
            });
            threads.flatten().into_iter().for_each(|threads| observer.observe(count(threads), &[]));
        })
        .build();
    meter
        .u64_observable_gauge(PROCESS_UNIX_FILE_DESCRIPTOR_COUNT)
        .with_unit("{file_descriptor}")
        .with_description("Open file descriptors")
        .with_callback(move |observer| {
            let open = process.look(ProcessRefreshKind::nothing(), sysinfo::Process::open_files);
            open.flatten().into_iter().for_each(|open| observer.observe(count(open), &[]));
        })
        .build();
    meter
        .f64_observable_gauge(PROCESS_UPTIME)
        .with_unit("s")
        .with_description("How long the process has run")
        .with_callback(move |observer| observer.observe(began.elapsed().as_secs_f64(), &[]))
        .build();
}

/// A figure of the run time: name, unit, what it is, how it is read.
type Figure = (&'static str, &'static str, &'static str, fn(&RuntimeMetrics) -> usize);

const FIGURES: [Figure; 3] = [
    ("tokio.runtime.workers", "{thread}", "Threads that run tasks", RuntimeMetrics::num_workers),
    ("tokio.runtime.alive_tasks", "{task}", "Tasks that have not ended", RuntimeMetrics::num_alive_tasks),
    (
        "tokio.runtime.global_queue_depth",
        "{task}",
        "Tasks that wait for any thread",
        RuntimeMetrics::global_queue_depth,
    ),
];

fn run_time(meter: &Meter, runtime: &Handle) {
    for (name, unit, description, value) in FIGURES {
        let of = runtime.metrics();
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| observer.observe(count(value(&of)), &[]))
            .build();
    }
    let of = runtime.metrics();
    meter
        .f64_observable_counter("tokio.runtime.busy")
        .with_unit("s")
        .with_description("Time that threads spent running tasks")
        .with_callback(move |observer| {
            for worker in 0..of.num_workers() {
                let number = i64::try_from(worker).unwrap_or_default();
                observer.observe(
                    of.worker_total_busy_duration(worker).as_secs_f64(),
                    &[KeyValue::new("tokio.worker", number)],
                );
            }
        })
        .build();
}
