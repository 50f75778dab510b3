//! Addresses as people write them, and what to say about those that are none.

use crate::base::Address;
use crate::config::values;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A server as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    /// As it was written.
    pub written: String,
    pub place: Place,
    /// How much it gets beside the others, 1 to 256.
    pub weight: u16,
    /// It is used while no other server is up.
    pub backup: bool,
}

/// Where a server is, as far as it is known without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An IP address or a Unix socket.
    At(Address),
    /// A host name in lower case, to be looked up.
    Name { host: String, port: u16 },
}

impl fmt::Display for Place {
    /// With the port, even if it was left out: `app:80`, `[2001:db8::1]:80`, `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::At(address) => address.fmt(f),
            Place::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// The largest weight of a server.
const MAX_WEIGHT: u16 = 256;

/// The port of a server that is named without one.
const HTTP_PORT: u16 = 80;

/// The longest path that fits into a `sockaddr_un` with its final NUL.
pub const LONGEST_SOCKET_PATH: usize = 107;

/// An address to listen on: `IP:port`, `[IPv6]:port`, `:port` (all IPv4 interfaces), `unix:/path`. The system chooses
/// the port if it is 0.
pub fn listen(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if let Some(Ok(port)) = text.strip_prefix(':').map(port) {
        return Ok(Address::Tcp(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)));
    }
    text.parse().map(Address::Tcp).map_err(|_| why_no_listener(text))
}

fn why_no_listener(text: &str) -> String {
    let host_and_port = text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':'));
    if text.contains(',') {
        "one address at a time: repeat --listen for each".to_string()
    } else if let Some((_, rest)) = text.split_once("://") {
        format!("leave the scheme out: write '{}'", rest.trim_end_matches('/'))
    } else if text.contains('/') {
        format!("a socket's path is written 'unix:{text}'")
    } else if port(text).is_ok() {
        format!("a port needs a colon: write ':{text}' for all interfaces, '127.0.0.1:{text}' for this machine only")
    } else if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        format!("the port is missing: write '{}'", SocketAddr::new(ip, 8080))
    } else if let Some(Err(error)) = host_and_port.map(|(_, digits)| port(digits)) {
        error
    } else if let Some(("*", digits)) = host_and_port {
        format!("write ':{digits}' for all interfaces")
    } else if let Some((host, digits)) = host_and_port.filter(|(host, _)| is_name(host)) {
        format!("'{host}' is a name, and listening needs an IP address: write '127.0.0.1:{digits}' or ':{digits}'")
    } else {
        "not an address: write IP:port, [IPv6]:port, :port or unix:/path".to_string()
    }
}

/// A server to forward to: `host[:port]`, `[IPv6][:port]`, `unix:/path`, then `=weight` if it is not 1. A pasted
/// `http://host:port/` is one, too.
pub fn upstream(text: &str) -> Result<UpstreamSpec, String> {
    let written = text.trim();
    if written.is_empty() {
        return Err("an empty server name: remove the comma that is too much".to_string());
    }
    let (server, weight) = weighted(written)?;
    let place = match server.strip_prefix("unix:") {
        Some(path) => Place::At(unix(path)?),
        None => host_and_port(without_scheme(server)?)?,
    };
    Ok(UpstreamSpec { written: written.to_string(), place, weight, backup: false })
}

/// A server to forward to while none of the others is up, written as [`upstream`] is.
pub fn backup(text: &str) -> Result<UpstreamSpec, String> {
    Ok(UpstreamSpec { backup: true, ..upstream(text)? })
}

/// The server, and the weight behind it.
fn weighted(text: &str) -> Result<(&str, u16), String> {
    let Some((server, digits)) = text.rsplit_once('=') else { return Ok((text, 1)) };
    // A path may have an equals sign of its own; one that ends as a weight does needs a weight.
    if text.starts_with("unix:") && !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok((text, 1));
    }
    match values::number(digits, 1, MAX_WEIGHT.into()) {
        Ok(weight) => Ok((server, weight as u16)),
        Err(_) => Err(format!("'{digits}' is not a weight: write '{server}=1' to '{server}={MAX_WEIGHT}'")),
    }
}

fn without_scheme(text: &str) -> Result<&str, String> {
    if text.starts_with('/') || text.starts_with("./") {
        return Err(format!("a socket's path is written 'unix:{text}'"));
    }
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(text) };
    if scheme.eq_ignore_ascii_case("http") {
        Ok(rest.strip_suffix('/').unwrap_or(rest))
    } else if scheme.eq_ignore_ascii_case("https") {
        Err("TLS to servers is not done yet: name the server's plain HTTP port as host:port".to_string())
    } else {
        Err(format!("'{scheme}' is not a protocol this proxy forwards to: write host:port"))
    }
}

fn host_and_port(text: &str) -> Result<Place, String> {
    if let Some((host, _)) = text.split_once(['/', '?', '#']) {
        return Err(format!("a server has no path, requests keep their own: write '{host}'"));
    }
    if let Some(inside) = text.strip_prefix('[') {
        return ipv6(inside);
    }
    let (host, port) = match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => {
            return Err("an IPv6 address needs brackets: write '[2001:db8::1]' or '[2001:db8::1]:80'".to_string());
        }
        Some((host, digits)) => (host, server_port(digits)?),
        None => (text, HTTP_PORT),
    };
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return server_at(SocketAddr::new(ip.into(), port));
    }
    if is_name(host) {
        Ok(Place::Name { host: host.to_ascii_lowercase(), port })
    } else {
        Err("neither a host name nor an IP address: write host:port, such as app.local:8080 or 10.0.0.7:8080"
            .to_string())
    }
}

/// What follows the opening bracket. A scope is a number: `fe80::1%2`.
fn ipv6(text: &str) -> Result<Place, String> {
    let Some((inside, rest)) = text.split_once(']') else {
        return Err("the closing bracket is missing: write '[2001:db8::1]:80'".to_string());
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) => server_port(digits)?,
        None if rest.is_empty() => HTTP_PORT,
        None => return Err(format!("'{rest}' behind the bracket is no port: write '[{inside}]:80'")),
    };
    match format!("[{inside}]:{port}").parse() {
        Ok(address) => server_at(address),
        Err(_) => Err(format!("'{inside}' is not an IPv6 address")),
    }
}

fn server_at(address: SocketAddr) -> Result<Place, String> {
    if address.ip().is_unspecified() {
        return Err(format!("{} is an address to listen on: write 127.0.0.1 or [::1] for this machine", address.ip()));
    }
    Ok(Place::At(Address::Tcp(address)))
}

fn server_port(digits: &str) -> Result<u16, String> {
    match port(digits)? {
        0 => Err("port 0 cannot be connected to: write 1 to 65535".to_string()),
        port => Ok(port),
    }
}

/// `u16::from_str` takes a sign, a port has none.
fn port(digits: &str) -> Result<u16, String> {
    let only_digits = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| only_digits).ok_or_else(|| format!("'{digits}' is not a port: write 1 to 65535"))
}

/// A host name, and no number that lacks a part to be an IPv4 address.
fn is_name(host: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let label = |part: &str| (1..=63).contains(&part.len()) && !part.starts_with('-');
    let number = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    host.len() <= 253
        && !number
        && host.bytes().all(known)
        && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

fn unix(path: &str) -> Result<Address, String> {
    if path.is_empty() {
        Err("the path is missing: write unix:/run/name.sock".to_string())
    } else if path.starts_with('@') || path.contains('\0') {
        Err("abstract sockets are not supported: write unix:/run/name.sock".to_string())
    } else if path.len() > LONGEST_SOCKET_PATH {
        Err(format!("the path of a socket has at most {LONGEST_SOCKET_PATH} bytes, this one has {}", path.len()))
    } else if path.ends_with('/') || Path::new(path).is_dir() {
        Err(format!("{path} is a folder: write the path of the socket in it"))
    } else {
        Ok(Address::Unix(PathBuf::from(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners() {
        let cases = [
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::]:80", "[::]:80"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
            (":8080", "0.0.0.0:8080"),
            ("unix:/run/pilb.sock", "unix:/run/pilb.sock"),
            ("unix:pilb.sock", "unix:pilb.sock"),
        ];
        for (text, shown) in cases {
            assert_eq!(listen(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn wrong_listeners_say_what_to_write() {
        let cases = [
            ("8080", "a port needs a colon: write ':8080' for all interfaces, '127.0.0.1:8080' for this machine only"),
            ("0.0.0.0", "the port is missing: write '0.0.0.0:8080'"),
            ("::1", "the port is missing: write '[::1]:8080'"),
            ("[::1]", "the port is missing: write '[::1]:8080'"),
            ("0.0.0.0:", "'' is not a port: write 1 to 65535"),
            ("0.0.0.0:99999", "'99999' is not a port: write 1 to 65535"),
            (":99999", "'99999' is not a port: write 1 to 65535"),
            ("127.0.0.1:+80", "'+80' is not a port: write 1 to 65535"),
            ("*:80", "write ':80' for all interfaces"),
            ("http://0.0.0.0:80/", "leave the scheme out: write '0.0.0.0:80'"),
            ("/run/pilb.sock", "a socket's path is written 'unix:/run/pilb.sock'"),
            ("0.0.0.0:80,[::]:80", "one address at a time: repeat --listen for each"),
            ("unix:", "the path is missing: write unix:/run/name.sock"),
            ("unix:@pilb", "abstract sockets are not supported: write unix:/run/name.sock"),
            ("unix:/tmp", "/tmp is a folder: write the path of the socket in it"),
            ("localhost:80", "'localhost' is a name, and listening needs an IP address: write '127.0.0.1:80' or ':80'"),
            ("300.0.0.1:80", "not an address: write IP:port, [IPv6]:port, :port or unix:/path"),
            ("", "not an address: write IP:port, [IPv6]:port, :port or unix:/path"),
        ];
        for (text, message) in cases {
            assert_eq!(listen(text).unwrap_err(), message, "{text}");
        }
        let long = format!("unix:/{}", "a".repeat(LONGEST_SOCKET_PATH));
        assert!(listen(&long).unwrap_err().ends_with("at most 107 bytes, this one has 108"));
    }

    #[test]
    fn servers() {
        let cases = [
            ("a", "a:80"),
            ("App_1.example.:8080", "app_1.example.:8080"),
            (" 10.0.0.7 ", "10.0.0.7:80"),
            ("10.0.0.7:3000", "10.0.0.7:3000"),
            ("[2001:db8::1]", "[2001:db8::1]:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("[fe80::1%2]:8080", "[fe80::1%2]:8080"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("http://app:8080/", "app:8080"),
            ("HTTP://[::1]", "[::1]:80"),
        ];
        for (text, shown) in cases {
            let spec = upstream(text).unwrap();
            assert_eq!((spec.place.to_string().as_str(), spec.written.as_str()), (shown, text.trim()));
        }
        assert!(matches!(upstream("a").unwrap().place, Place::Name { .. }));
        assert!(matches!(upstream("1.2.3.4").unwrap().place, Place::At(Address::Tcp(_))));
    }

    #[test]
    fn servers_have_a_weight() {
        let cases = [
            ("a", "a:80", 1),
            ("a=3", "a:80", 3),
            ("app:8080=256", "app:8080", 256),
            ("10.0.0.7=2", "10.0.0.7:80", 2),
            ("[::1]=7", "[::1]:80", 7),
            ("[::1]:81=007", "[::1]:81", 7),
            ("http://b:81/=2", "b:81", 2),
            ("http://b=2", "b:80", 2),
            ("unix:/run/a=2", "unix:/run/a", 2),
            ("unix:/run/a=b", "unix:/run/a=b", 1),
            ("unix:/run/a=5=1", "unix:/run/a=5", 1),
        ];
        for (text, place, weight) in cases {
            let spec = upstream(text).unwrap();
            assert_eq!((spec.place.to_string().as_str(), spec.weight), (place, weight), "{text}");
            assert!(!spec.backup);
            assert_eq!(backup(text).unwrap(), UpstreamSpec { backup: true, ..spec });
        }
        for weight in ["", "0", "257", "-1", "1.5", "x", "99999999999999999999"] {
            let message = format!("'{weight}' is not a weight: write 'a:1=1' to 'a:1=256'");
            assert_eq!(upstream(&format!("a:1={weight}")).unwrap_err(), message);
        }
        assert_eq!(
            upstream("unix:/run/a=0").unwrap_err(),
            "'0' is not a weight: write 'unix:/run/a=1' to 'unix:/run/a=256'"
        );
        for text in ["=3", "a =3"] {
            assert!(upstream(text).unwrap_err().starts_with("neither a host name"), "{text}");
        }
    }

    #[test]
    fn wrong_servers_say_what_to_write() {
        let cases = [
            ("", "an empty server name: remove the comma that is too much"),
            ("https://app", "TLS to servers is not done yet: name the server's plain HTTP port as host:port"),
            ("ftp://app", "'ftp' is not a protocol this proxy forwards to: write host:port"),
            ("http://app:80/v1", "a server has no path, requests keep their own: write 'app:80'"),
            ("app/", "a server has no path, requests keep their own: write 'app'"),
            ("/run/app.sock", "a socket's path is written 'unix:/run/app.sock'"),
            ("::1", "an IPv6 address needs brackets: write '[2001:db8::1]' or '[2001:db8::1]:80'"),
            ("[::1", "the closing bracket is missing: write '[2001:db8::1]:80'"),
            ("[::1]80", "'80' behind the bracket is no port: write '[::1]:80'"),
            ("[app]:80", "'app' is not an IPv6 address"),
            ("app:", "'' is not a port: write 1 to 65535"),
            ("app:http", "'http' is not a port: write 1 to 65535"),
            ("app:65536", "'65536' is not a port: write 1 to 65535"),
            ("app:0", "port 0 cannot be connected to: write 1 to 65535"),
            ("0.0.0.0:80", "0.0.0.0 is an address to listen on: write 127.0.0.1 or [::1] for this machine"),
            ("unix:", "the path is missing: write unix:/run/name.sock"),
        ];
        for (text, message) in cases {
            assert_eq!(upstream(text).unwrap_err(), message, "{text}");
        }
        let long = "a".repeat(64);
        for text in ["8080", "10.0.0", "300.1.1.1", "a b", "user@app", ":80", "-a", "a..b", "a,b", long.as_str()] {
            assert!(upstream(text).unwrap_err().starts_with("neither a host name nor an IP address"), "{text}");
        }
    }
}
