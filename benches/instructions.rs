//! How many instructions each part takes (`benches/list` says which there are), counted under `valgrind --tool=callgrind`:
//! `cargo bench --bench instructions [-- [--keep] [NAME...]]`.
//!
//! Unlike a time, a count is the same on a busy machine and each time, so a change of one per cent is a change. Each part runs N times in
//! one process and 2N times in another; the difference is what N operations take without what came before and after. The counts are
//! compared with those in `benches/instructions.csv`; `--keep` writes them there. They depend on the compiler, the C library and the
//! processor's vector instructions: where one of these is another one, count the old commit again before comparing.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]

mod list;

use list::Part;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::process::{Child, Command, Stdio};
use std::{env, fs};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.csv");
/// Operations of the shorter run: whole batches of all clients' requests, and few enough for valgrind.
const TIMES: u64 = 256;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [mode, index, times] = &args[..]
        && mode == "--run"
    {
        return run(index.parse()?, times.parse()?);
    }
    let keep = args.iter().any(|arg| arg == "--keep");
    args.retain(|arg| arg != "--keep");
    let Ok(version) = said("valgrind") else {
        println!("valgrind is not installed: no instructions counted");
        return Ok(());
    };
    let kept = kept();
    println!("{:42} {:>12} {:>12} {:>8} {:>9}", "instructions per operation", "kept", "now", "change", "per KiB");
    let mut counts = Vec::new();
    for (index, part) in list::parts().iter().enumerate() {
        let name = format!("{}: {}", part.group, part.name);
        if args.is_empty() || args.iter().any(|wanted| name.contains(wanted.as_str())) {
            let now = count(index)?;
            println!("{}", row(&name, part, kept.get(&name).copied(), now));
            counts.push((name, now));
        }
    }
    if keep {
        keep_them(kept, counts, &version)?;
    }
    Ok(())
}

/// The child's side: one part, so many times.
fn run(index: usize, times: u64) -> Outcome<()> {
    let parts = list::parts();
    let mut operation = (parts.get(index).ok_or("no such part")?.make)();
    (0..times).for_each(|_| operation());
    Ok(())
}

/// Instructions per operation.
fn count(index: usize) -> Outcome<f64> {
    // Both at once: a count does not care how fast it goes.
    let (short, long) = (start(index, TIMES)?, start(index, 2 * TIMES)?);
    let (short, long) = (collected(short)?, collected(long)?);
    Ok((long as f64 - short as f64) / TIMES as f64)
}

fn start(index: usize, times: u64) -> Outcome<Child> {
    // Without the environment, whose size moves the stack. Both numbers of times have as many digits.
    Ok(Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["--run", &index.to_string(), &times.to_string()])
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        // Callgrind counts `rep movsb` once per byte: let glibc copy by vectors instead.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=1000000000")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?)
}

/// The total that callgrind tells at the end.
fn collected(child: Child) -> Outcome<u64> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let total = said.lines().find_map(|line| line.split_once("Collected : ")).filter(|_| output.status.success());
    let (_, total) = total.ok_or_else(|| format!("valgrind failed: {said}"))?;
    Ok(total.trim().parse()?)
}

fn row(name: &str, part: &Part, kept: Option<f64>, now: f64) -> String {
    let was = kept.map_or("-".to_owned(), |kept| format!("{kept:.1}"));
    let change = match kept.map(|kept| 100.0 * (now - kept) / kept) {
        Some(change) if change.abs() < 0.05 => "=".to_owned(),
        Some(change) => format!("{change:+.1} %"),
        None => "new".to_owned(),
    };
    let per_kib = part.bytes.map_or(String::new(), |bytes| format!("{:.1}", now * 1024.0 / bytes as f64));
    format!("{name:42} {was:>12} {now:>12.1} {change:>8} {per_kib:>9}").trim_end().to_owned()
}

/// What the file has, by part. Names have commas, so the number is what follows the last one.
fn kept() -> BTreeMap<String, f64> {
    let text = fs::read_to_string(KEPT).unwrap_or_default();
    let line = |line: &str| {
        line.rsplit_once(',').and_then(|(name, n)| Some((name.trim_matches('"').to_owned(), n.parse().ok()?)))
    };
    text.lines().filter_map(line).collect()
}

/// Writes what was counted now, and what was not as it was before, in the order of the list.
fn keep_them(mut kept: BTreeMap<String, f64>, counts: Vec<(String, f64)>, valgrind: &str) -> Outcome<()> {
    kept.extend(counts);
    let mut text = format!("# {}; {valgrind}\npart,instructions\n", said("rustc").unwrap_or_default());
    for part in list::parts() {
        let name = format!("{}: {}", part.group, part.name);
        if let Some(n) = kept.get(&name) {
            writeln!(text, "\"{name}\",{n:.1}")?;
        }
    }
    Ok(fs::write(KEPT, text)?)
}

fn said(program: &str) -> Outcome<String> {
    let output = Command::new(program).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
