//! `pilb-fast`: the reverse proxy and load balancer.

fn main() -> std::process::ExitCode {
    pilb::run::proxy(std::env::args_os())
}
