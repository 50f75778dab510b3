//! Level 2 of the tests: scripts on the proxy without sockets (`tests/sessions/`), each performed as written, byte by byte from either
//! side, and with sockets that take little at once. The language is explained in `sessions_world/mod.rs`.
//!
//! `PILB_SCRIPT=name` performs only scripts whose name contains it, and prints what happened.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "PILB_SCRIPT prints what happened")]

mod sessions_world;

use sessions_world::play::perform;
use sessions_world::script::{Mode, parse};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sessions"))
}

fn run(name: &str) {
    let file = format!("{name}.script");
    let source = std::fs::read_to_string(folder().join(&file)).unwrap();
    let scripts = parse(&source).unwrap_or_else(|error| panic!("{file}: {error}"));
    let wanted = std::env::var("PILB_SCRIPT").ok();
    let mut failures = Vec::new();
    for script in &scripts {
        if wanted.as_ref().is_some_and(|wanted| !script.name.contains(wanted.as_str())) {
            continue;
        }
        let mut failed: Option<String> = None;
        for mode in Mode::ALL.into_iter().filter(|mode| !script.skip.contains(mode)) {
            match (perform(&file, script, mode), &mut failed) {
                (Err(report), None) => failed = Some(report),
                // One transcript tells enough.
                (Err(report), Some(first)) => {
                    first.push_str(&format!("  and {}\n", report.lines().take(2).collect::<Vec<_>>().join(" ")));
                }
                (Ok(transcript), _) if wanted.is_some() => {
                    println!("{} ({}):\n{transcript}", script.name, mode.name());
                }
                (Ok(_), _) => {}
            }
        }
        failures.extend(failed);
    }
    let (bad, all) = (failures.len(), scripts.len());
    assert!(failures.is_empty(), "{bad} of {all} scripts failed\n\n{}", failures.join("\n"));
}

macro_rules! files {
    ($($test:ident $file:literal,)*) => {
        $(#[test]
        fn $test() {
            run($file);
        })*

        #[test]
        fn every_file_is_run() {
            let mut files: Vec<String> = std::fs::read_dir(folder())
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            files.sort();
            assert_eq!(files, [$($file),*]);
        }
    };
}

files! {
    a_head "a-head",
    b_body "b-body",
    c_pipelining "c-pipelining",
    c_reuse "c-reuse",
    d_dial "d-dial",
    e_client_aborts "e-client-aborts",
    e_refusals "e-refusals",
    e_upstream "e-upstream",
    q_queue "q-queue",
    r_servers "r-servers",
    t_timeouts "t-timeouts",
    u_tunnel "u-tunnel",
    x_interim "x-interim",
    z_drain "z-drain",
}
