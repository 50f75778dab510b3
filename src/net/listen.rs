//! Opens listening sockets.

use crate::base::Address;
use crate::net::sys::Listener;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

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
        Address::Unix(path) => match listen_at(path, options.backlog) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                listen_at(path, options.backlog)
            }
            result => result,
        },
    }
}

fn listen_at(path: &Path, backlog: i32) -> io::Result<Listener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    Ok(Listener::Unix(mio::net::UnixListener::from_std(socket.into())))
}

/// Is there a socket that nobody listens on? Anything else that lies there is somebody's.
fn is_stale(path: &Path) -> bool {
    let refused = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Who listens and accepts nobody is there all the same.
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    fs::symlink_metadata(path).is_ok_and(|what| what.file_type().is_socket())
        && refused().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
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

    #[test]
    fn the_backlog_of_a_unix_socket_is_as_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = listen(&Address::Unix(path.clone()), Options { backlog: 1, reuse_port: false }).unwrap();
        let waiting: Vec<_> = (0..20).map_while(|_| mio::net::UnixStream::connect(&path).ok()).collect();
        assert!(waiting.len() <= 3, "{} wait", waiting.len());
    }

    #[test]
    fn a_path_of_one_that_accepts_nobody_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _other = listen_at(&path, 1).unwrap();
        let _waiting: Vec<_> = (0..20).map_while(|_| mio::net::UnixStream::connect(&path).ok()).collect();
        let error = listen(&Address::Unix(path), OPTIONS).map(drop).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert!(listen(&Address::Unix(path.clone()), OPTIONS).is_err());
        }
        assert_eq!(fs::read_to_string(&link).unwrap(), "precious");
    }
}
