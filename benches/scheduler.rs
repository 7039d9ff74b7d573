//! The scheduler's inner loop: what deciding costs for each job, however many batches wait.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pingone_unblock::engine::Rehearsal;

fn scheduler(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a job through the scheduler");
    for batches in [1, 10, 1000] {
        let mut rehearsal = Rehearsal::new(batches, 2000 / batches + 4);
        // Into its stride, before anything is counted.
        for _ in 0..50 {
            black_box(rehearsal.step());
        }
        let jobs = rehearsal.step().max(1);
        group.throughput(Throughput::Elements(jobs as u64));
        group.bench_function(format!("{batches} batches"), |bencher| {
            bencher.iter(|| black_box(rehearsal.step()))
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = scheduler
}
criterion_main!(benches);
