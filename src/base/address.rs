//! Where a listener or a server is: an IP address with a port, or a Unix socket's path.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A socket's address. Shown as `192.0.2.1:80`, `[2001:db8::1]:80` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => addr.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
