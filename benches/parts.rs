//! How long each part takes (`benches/list` says which there are): `cargo bench --bench parts [-- NAME]`.

mod list;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn benches(c: &mut Criterion) {
    for part in list::parts() {
        let mut group = c.benchmark_group(part.group);
        if let Some(bytes) = part.bytes {
            group.throughput(Throughput::Bytes(bytes));
        }
        let mut operation = (part.make)();
        group.bench_function(part.name, |bencher| bencher.iter(&mut operation));
        group.finish();
    }
}

criterion_group!(all, benches);
criterion_main!(all);
