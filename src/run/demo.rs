//! The demo's three embedded origins, and what the terminal says.

use crate::access_log::RingLog;
use crate::base::Address;
use crate::base::time::SECOND;
use crate::config::{Exit, LogTarget, Server};
use crate::net::listen::{Options, listen};
use crate::net::{Settings, Worker};
use crate::origin::{DemoStore, Origin, Settings as OriginSettings};
use crate::run::crew::{Crew, Rank};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

/// Starts the origins on ports that the system chooses.
pub(super) fn start(crew: &mut Crew) -> Result<Vec<Server>, Exit> {
    (1..=3).map(|number| start_one(crew, &format!("origin-{number}"))).collect()
}

fn start_one(crew: &mut Crew, name: &str) -> Result<Server, Exit> {
    let cannot = |error: io::Error| Exit::cannot_start(format!("cannot start the demo's {name}: {error}"));
    let anywhere = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = listen(&anywhere, Options { backlog: 128, reuse_port: false }).map_err(cannot)?;
    let address = listener.address().map_err(cannot)?;
    let app_name = name.to_owned();
    let recruit = crew.single(vec![listener])?;
    crew.start(Rank::Back, name, recruit, move |sys, remote| {
        let app = Origin::new(DemoStore::new(&app_name), OriginSettings::default());
        let settings = Settings {
            buffer: 16 * 1024,
            max_sessions: 1024,
            idle_per_server: 0,
            drain: 30 * SECOND,
            linger: 2 * SECOND,
        };
        Worker::new(app, sys, Vec::new(), Box::new(RingLog::off()), remote, settings)
    })?;
    Ok(Server { name: name.to_owned(), address })
}

/// Says what to open and what to try.
pub(super) fn invite(bound: &[Address], log: &LogTarget) {
    let Some(Address::Tcp(address)) = bound.iter().find(|address| matches!(address, Address::Tcp(_))) else { return };
    let base = format!("http://{address}");
    let log = match log {
        LogTarget::File(path) => format!("tail -f {}", path.display()),
        LogTarget::Stdout => "the lines below".to_owned(),
        LogTarget::Off => "off".to_owned(),
    };
    let text = format!(
        "\n  pilb-fast serves three demo origins\n\n    open   {base}/            reload: the next origin answers\n    try    curl -s {base}/\n           curl -s {base}/echo      what an origin gets to see\n           curl -s {base}/bytes/1000000 | wc -c\n    watch  {log}\n\n  Ctrl-C finishes what runs and ends.\n\n"
    );
    // A closed standard output is no reason not to serve.
    let _ = io::stdout().write_all(text.as_bytes());
}
