//! From the servers' names to their addresses, once, at the start.

use crate::base::Address;
use crate::config::{Exit, Place, UpstreamSpec};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// Servers that one proxy forwards to at the most.
const MAX_SERVERS: usize = 1024;

/// A server of the rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// For people: `app:80`, or `app/10.0.0.7:80` where a name has several addresses. No two servers have the same.
    pub name: String,
    pub address: Address,
    /// How much it gets beside the others, 1 to 256. Each address of a name has the weight of the name.
    pub weight: u16,
    /// It is used while no other server is up.
    pub backup: bool,
}

/// The servers in the order in which they were named; of one name IPv4 comes first. None is there twice.
pub fn resolve(specs: &[UpstreamSpec]) -> Result<Vec<Server>, Exit> {
    resolve_with(specs, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

/// [`resolve`] with another way to look a name up.
pub fn resolve_with(
    specs: &[UpstreamSpec],
    lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
) -> Result<Vec<Server>, Exit> {
    let mut servers: Vec<Server> = Vec::new();
    for spec in specs {
        for server in servers_of(spec, &lookup)? {
            match servers.iter().find(|known| known.address == server.address) {
                Some(known) => log::warn!("{} is the same server as {}: it counts once", server.name, known.name),
                None => servers.push(server),
            }
        }
    }
    if servers.len() > MAX_SERVERS {
        return Err(Exit::cannot_start(format!("{} servers are too many: at most {MAX_SERVERS}", servers.len())));
    }
    Ok(servers)
}

fn servers_of(
    spec: &UpstreamSpec,
    lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
) -> Result<Vec<Server>, Exit> {
    let server = |name, address| Server { name, address, weight: spec.weight, backup: spec.backup };
    let (host, port) = match &spec.place {
        Place::At(address) => return Ok(vec![server(address.to_string(), address.clone())]),
        Place::Name { host, port } => (host, *port),
    };
    let mut found = lookup(host, port).map_err(|error| unresolved(host, &error))?;
    found.sort_by_key(SocketAddr::is_ipv6);
    let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.len());
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.as_slice() {
        [] => {
            Err(Exit::cannot_start(format!("server '{host}' has no address: check the name, or write an IP address")))
        }
        [address] => Ok(vec![server(spec.place.to_string(), Address::Tcp(*address))]),
        several => {
            let named = |address: &SocketAddr| server(format!("{host}/{address}"), Address::Tcp(*address));
            Ok(several.iter().map(named).collect())
        }
    }
}

fn unresolved(host: &str, error: &io::Error) -> Exit {
    let text = error.to_string();
    let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    Exit::cannot_start(format!(
        "server '{host}' is not found ({why}): check the name and the DNS, or write an IP address"
    ))
}

/// Refuses a server that is the proxy itself: a request to it would go round in circles.
pub fn refuse_loops(option: &str, listen: &[Address], servers: &[Server]) -> Result<(), Exit> {
    for server in servers {
        if let Some(ours) = listen.iter().find(|ours| reaches(&server.address, ours)) {
            return Err(Exit::usage(format!(
                "server '{}' is this proxy itself, which listens on {ours}: check the port, or change {option}",
                server.name
            )));
        }
    }
    Ok(())
}

/// Whether a connection to `server` surely arrives at the listener. Other addresses of this machine are not known here.
fn reaches(server: &Address, listener: &Address) -> bool {
    match (server, listener) {
        (Address::Tcp(server), Address::Tcp(ours)) => {
            let everywhere =
                ours.ip().is_unspecified() && ours.is_ipv4() == server.is_ipv4() && server.ip().is_loopback();
            server.port() == ours.port() && (everywhere || server.ip() == ours.ip())
        }
        (server, listener) => server == listener,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address;

    /// What the names in these tests stand for.
    fn book(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let ips: &[&str] = match host {
            "a" => &["10.0.0.1"],
            "also-a" => &["10.0.0.1"],
            "many" => &["2001:db8::1", "10.0.0.2", "2001:db8::2", "10.0.0.3", "10.0.0.2"],
            "empty" => &[],
            _ => return Err(io::Error::other("failed to lookup address information: Name or service not known")),
        };
        Ok(ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
    }

    fn run(names: &[&str]) -> Result<Vec<(String, String)>, Exit> {
        let specs: Vec<_> = names.iter().map(|name| address::upstream(name).unwrap()).collect();
        let servers = resolve_with(&specs, book)?;
        Ok(servers.into_iter().map(|server| (server.name, server.address.to_string())).collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, address)| (name.to_string(), address.to_string())).collect()
    }

    #[test]
    fn each_address_is_a_server_ipv4_first() {
        let expected = [
            ("many/10.0.0.2:8080", "10.0.0.2:8080"),
            ("many/10.0.0.3:8080", "10.0.0.3:8080"),
            ("many/[2001:db8::1]:8080", "[2001:db8::1]:8080"),
            ("many/[2001:db8::2]:8080", "[2001:db8::2]:8080"),
            ("a:80", "10.0.0.1:80"),
        ];
        assert_eq!(run(&["many:8080", "A"]).unwrap(), pairs(&expected));
    }

    #[test]
    fn each_address_has_the_weight_of_its_name() {
        let specs = [address::upstream("many=3").unwrap(), address::backup("a=2").unwrap()];
        let servers = resolve_with(&specs, book).unwrap();
        let found: Vec<_> = servers.iter().map(|server| (server.weight, server.backup)).collect();
        assert_eq!(found, [(3, false), (3, false), (3, false), (3, false), (2, true)]);
        // The one that is named first counts.
        let specs = [address::upstream("a=5").unwrap(), address::backup("also-a").unwrap()];
        let servers = resolve_with(&specs, book).unwrap();
        assert_eq!(servers.iter().map(|server| (server.weight, server.backup)).collect::<Vec<_>>(), [(5, false)]);
    }

    #[test]
    fn addresses_and_sockets_are_not_looked_up() {
        let expected = [("10.9.9.9:80", "10.9.9.9:80"), ("[::1]:81", "[::1]:81"), ("unix:/run/a", "unix:/run/a")];
        assert_eq!(run(&["10.9.9.9", "[::1]:81", "unix:/run/a"]).unwrap(), pairs(&expected));
    }

    #[test]
    fn two_names_of_one_server_count_once() {
        assert_eq!(run(&["a", "also-a", "10.0.0.1"]).unwrap(), pairs(&[("a:80", "10.0.0.1:80")]));
        assert_eq!(run(&["a:1", "also-a:2"]).unwrap().len(), 2);
    }

    #[test]
    fn a_name_that_is_not_found_is_one_line() {
        let exit = run(&["a", "nowhere:8080"]).unwrap_err();
        assert_eq!(
            exit.message,
            "server 'nowhere' is not found (Name or service not known): \
             check the name and the DNS, or write an IP address"
        );
        assert_eq!((exit.code, exit.to_stdout), (1, false));
        assert!(run(&["empty"]).unwrap_err().message.contains("has no address"));
    }

    #[test]
    fn there_is_a_limit_of_servers() {
        let specs: Vec<_> =
            (0..=MAX_SERVERS).map(|port| address::upstream(&format!("a:{}", port + 1)).unwrap()).collect();
        assert!(resolve_with(&specs[1..], book).is_ok());
        assert_eq!(resolve_with(&specs, book).unwrap_err().message, "1025 servers are too many: at most 1024");
    }

    #[test]
    fn the_machine_knows_itself() {
        let specs = [address::upstream("localhost:3000").unwrap()];
        let servers = resolve(&specs).unwrap();
        assert!(
            servers.iter().all(|s| matches!(s.address, Address::Tcp(a) if a.ip().is_loopback() && a.port() == 3000))
        );
    }

    #[test]
    fn a_proxy_does_not_forward_to_itself() {
        let verdict = |listen: &str, server: &str| {
            let server =
                Server { name: "x".to_string(), address: address::listen(server).unwrap(), weight: 1, backup: false };
            refuse_loops("--listen", &[address::listen(listen).unwrap()], &[server])
        };
        for (listen, server) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("unix:/run/a", "unix:/run/a"),
        ] {
            let exit = verdict(listen, server).unwrap_err();
            assert!(exit.code == 2 && exit.message.starts_with("server 'x' is this proxy itself"), "{listen} {server}");
        }
        for (listen, server) in [
            ("127.0.0.1:8080", "127.0.0.1:8081"),
            ("127.0.0.1:8080", "10.0.0.1:8080"),
            (":8080", "10.0.0.1:8080"),
            ("[::]:8080", "127.0.0.1:8080"),
            ("unix:/run/a", "unix:/run/b"),
            ("unix:/run/a", "127.0.0.1:8080"),
        ] {
            assert_eq!(verdict(listen, server), Ok(()), "{listen} {server}");
        }
    }
}
