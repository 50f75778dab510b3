//! Opens listening sockets.

use crate::base::Address;
use crate::net::sys::Listener;
use socket2::{Domain, Socket, Type};
use std::io;
use std::os::unix::net::UnixStream;

/// How a listener is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections that may wait to be accepted.
    pub backlog: i32,
    /// Several listeners, one per worker, share the port.
    pub reuse_port: bool,
}

/// Listens on the address. A Unix socket's path that nobody listens on any more is taken over; one in use is an error, like a port.
pub fn listen(address: &Address, options: Options) -> io::Result<Listener> {
    match address {
        Address::Tcp(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(options.reuse_port)?;
            if address.is_ipv6() {
                // `[::]` and `0.0.0.0` can be listened on side by side.
                socket.set_only_v6(true)?;
            }
            // Accepted sockets inherit it, which saves each of them the call.
            socket.set_tcp_nodelay(true)?;
            socket.bind(&(*address).into())?;
            socket.listen(options.backlog)?;
            Ok(Listener::Tcp(mio::net::TcpListener::from_std(socket.into())))
        }
        Address::Unix(path) => {
            let stale =
                || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            match mio::net::UnixListener::bind(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && stale() => {
                    std::fs::remove_file(path)?;
                    mio::net::UnixListener::bind(path)
                }
                result => result,
            }
            .map(Listener::Unix)
        }
    }
}

impl Listener {
    /// Where it really listens (port 0 gets a number).
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Listener::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().map(Into::into).unwrap_or_default()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { backlog: 8, reuse_port: false };

    #[test]
    fn a_port_in_use_is_refused_and_port_0_gets_a_number() {
        let first = listen(&Address::Tcp("127.0.0.1:0".parse().unwrap()), OPTIONS).unwrap();
        let address = first.address().unwrap();
        assert_ne!(address, Address::Tcp("127.0.0.1:0".parse().unwrap()));
        assert_eq!(listen(&address, OPTIONS).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_stale_unix_path_is_taken_over_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("s"));
        let first = listen(&address, OPTIONS).unwrap();
        assert_eq!(listen(&address, OPTIONS).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert_eq!(listen(&address, OPTIONS).unwrap().address().unwrap(), address);
    }
}
