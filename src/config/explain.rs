//! Why a socket could not be listened on, or a log not be opened, and what to do: one line each.

use crate::base::Address;
use crate::config::address::LONGEST_SOCKET_PATH;
use crate::config::one_line;
use rustix::io::Errno;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Ports below this one belong to root, unless the system was told otherwise.
const FIRST_FREE_PORT: u16 = 1024;

/// One line on why it is not possible to listen on the address, which this option names.
pub fn explain_bind(option: &str, address: &Address, error: &io::Error) -> String {
    let why = match address {
        Address::Tcp(socket) => why_no_port(option, *socket, error),
        Address::Unix(path) => why_no_socket(path, error),
    };
    one_line(&format!("cannot listen on {address}: {}", why.unwrap_or_else(|| error.to_string())))
}

/// One line on why the access log cannot be written to this path.
pub fn explain_log(path: &Path, error: &io::Error) -> String {
    let why = match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => {
            format!("there is no folder '{}': create it, or choose another file with --access-log", folder(path))
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            "permission denied: run as a user who may write it, or choose another file with --access-log".to_string()
        }
        Some(Errno::ISDIR) => "it is a folder: name a file in it with --access-log".to_string(),
        Some(Errno::ROFS) => "the file system is read-only: choose another file with --access-log".to_string(),
        Some(Errno::NOSPC | Errno::DQUOT) => {
            "the disk is full: make room, or choose another with --access-log".to_string()
        }
        _ => format!("{error}: choose another file with --access-log, or 'off'"),
    };
    one_line(&format!("cannot write the access log '{}': {why}", path.display()))
}

fn why_no_port(option: &str, socket: SocketAddr, error: &io::Error) -> Option<String> {
    let (ip, port) = (socket.ip(), socket.port());
    let why = match Errno::from_io_error(error)? {
        Errno::ADDRINUSE => {
            format!("port {port} is in use: stop the other program or choose another with {option}")
        }
        Errno::ACCESS | Errno::PERM if port < FIRST_FREE_PORT => {
            let setcap = format!("sudo setcap cap_net_bind_service=+ep {}", this_program());
            format!("port {port} needs root or CAP_NET_BIND_SERVICE: use a port above 1023, or run '{setcap}'")
        }
        Errno::ACCESS | Errno::PERM => {
            format!("permission denied by the system's policy: choose another port with {option}")
        }
        Errno::ADDRNOTAVAIL => {
            format!("this machine does not have the address {ip}: 'ip address' lists its own, ':{port}' is all of IPv4")
        }
        Errno::AFNOSUPPORT => format!("this machine has no IPv6: use ':{port}', all of IPv4"),
        Errno::MFILE | Errno::NFILE => "too many open files: raise the limit (ulimit -n)".to_string(),
        _ => return None,
    };
    Some(why)
}

fn why_no_socket(path: &Path, error: &io::Error) -> Option<String> {
    if error.kind() == io::ErrorKind::InvalidInput || path.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Some(format!("not a path for a socket: it has 1 to {LONGEST_SOCKET_PATH} bytes and no NUL"));
    }
    let why = match Errno::from_io_error(error)? {
        Errno::ADDRINUSE | Errno::EXIST => {
            "the file exists already: stop the program that uses it, or remove the file if none does".to_string()
        }
        Errno::NOENT | Errno::NOTDIR => format!("there is no folder '{}': create it first", folder(path)),
        Errno::ACCESS | Errno::PERM => {
            format!("permission denied in '{}': choose a folder this user may write to", folder(path))
        }
        Errno::ROFS => "the file system is read-only: choose a folder such as /run or /tmp".to_string(),
        Errno::MFILE | Errno::NFILE => "too many open files: raise the limit (ulimit -n)".to_string(),
        _ => return None,
    };
    Some(why)
}

/// The folder that the file is in, `.` if the path does not tell.
fn folder(path: &Path) -> String {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).display().to_string()
}

/// Where this program is, as `setcap` wants to know it.
fn this_program() -> String {
    std::env::current_exe().map_or_else(|_| "PROGRAM".to_string(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn bind(listen: &str, errno: Errno) -> String {
        let text = explain_bind("--listen", &address::listen(listen).unwrap(), &errno.into());
        assert!(!text.contains('\n'));
        text
    }

    fn log(path: &str, errno: Errno) -> String {
        let text = explain_log(Path::new(path), &errno.into());
        assert!(!text.contains('\n'));
        text
    }

    #[test]
    fn ports() {
        assert_eq!(
            bind(":80", Errno::ADDRINUSE),
            "cannot listen on 0.0.0.0:80: port 80 is in use: stop the other program or choose another with --listen"
        );
        let low = bind(":80", Errno::ACCESS);
        assert!(
            low.contains("port 80 needs root or CAP_NET_BIND_SERVICE: use a port above 1023, or run 'sudo setcap"),
            "{low}"
        );
        assert!(low.contains("cap_net_bind_service=+ep /"), "{low}");
        assert!(bind(":8080", Errno::ACCESS).contains("policy"));
        assert!(bind("10.9.9.9:80", Errno::ADDRNOTAVAIL).contains("this machine does not have the address 10.9.9.9"));
        assert!(bind("[::]:80", Errno::AFNOSUPPORT).ends_with("this machine has no IPv6: use ':80', all of IPv4"));
        assert!(bind(":80", Errno::MFILE).contains("ulimit -n"));
        assert!(bind(":80", Errno::NOMEM).starts_with("cannot listen on 0.0.0.0:80: Cannot allocate memory"));
    }

    #[test]
    fn sockets() {
        let path = "unix:/run/none/p.sock";
        assert!(bind(path, Errno::ADDRINUSE).contains("the file exists already"));
        assert!(bind(path, Errno::NOENT).ends_with("there is no folder '/run/none': create it first"));
        assert!(bind("unix:p.sock", Errno::ACCESS).contains("permission denied in '.'"));
        assert!(bind(path, Errno::ROFS).contains("read-only"));
        let long = Address::Unix("a".repeat(200).into());
        assert!(
            explain_bind("--listen", &long, &io::Error::from(io::ErrorKind::InvalidInput)).contains("1 to 107 bytes")
        );
    }

    #[test]
    fn logs() {
        assert_eq!(
            log("/none/a.log", Errno::NOENT),
            "cannot write the access log '/none/a.log': \
             there is no folder '/none': create it, or choose another file with --access-log"
        );
        assert!(log("a.log", Errno::ACCESS).contains("permission denied"));
        assert!(log("/tmp", Errno::ISDIR).contains("it is a folder"));
        assert!(log("a", Errno::ROFS).contains("read-only"));
        assert!(log("a", Errno::NOSPC).contains("the disk is full"));
        assert!(log("a", Errno::IO).contains("or 'off'"));
        assert!(explain_log(Path::new("a\nb"), &io::Error::other("c\nd")).contains(r"'a\nb': c\nd"));
    }

    #[test]
    fn what_the_system_really_says() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = TcpListener::bind(address).unwrap_err();
        let text = explain_bind("--admin", &Address::Tcp(address), &error);
        assert!(text.contains("is in use") && text.ends_with("choose another with --admin"), "{text}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let _taken = UnixListener::bind(&path).unwrap();
        let error = UnixListener::bind(&path).unwrap_err();
        assert!(explain_bind("--listen", &Address::Unix(path), &error).contains("the file exists already"));

        let path = folder.path().join("none/s.sock");
        let error = UnixListener::bind(&path).unwrap_err();
        assert!(explain_bind("--listen", &Address::Unix(path), &error).contains("there is no folder"));

        let path = folder.path().join("a".repeat(200));
        let error = UnixListener::bind(&path).unwrap_err();
        assert!(explain_bind("--listen", &Address::Unix(path), &error).contains("1 to 107 bytes"));

        let error = std::fs::File::create(folder.path()).unwrap_err();
        assert!(explain_log(folder.path(), &error).contains("it is a folder"));
    }
}
