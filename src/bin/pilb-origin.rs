//! `pilb-origin`: the file server.

fn main() -> std::process::ExitCode {
    pilb::run::origin(std::env::args_os())
}
