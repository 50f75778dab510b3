//! Whom the proxy forwards to: servers of the standard library in threads, which read as strictly as the clients do.

use crate::wire::{Address, End, Fields, Head, Socket, Wire, request_framing};
use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What becomes of the connection once a request was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Next,
    Close,
    Reset,
}

/// A request, and the connection it came on.
pub struct Visit<'a> {
    pub head: Head,
    /// The request's number on its connection, from 0.
    pub nth: usize,
    pub wire: &'a mut Wire,
    body_read: bool,
    broken: Option<End>,
}

impl Visit<'_> {
    /// Reads the request's body.
    pub fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        self.body_into(&mut |bytes| body.extend_from_slice(bytes));
        body
    }

    /// Reads the body, and returns its trailers. If it does not come whole, the connection is over.
    pub fn body_into(&mut self, take: &mut dyn FnMut(&[u8])) -> Fields {
        self.body_read = true;
        let read = request_framing(&self.head).and_then(|framing| self.wire.body(framing, take));
        read.unwrap_or_else(|end| {
            self.broken = Some(end);
            Fields::default()
        })
    }

    /// Answers with a body of known length, after reading the request's.
    pub fn reply(&mut self, status: &str, body: impl AsRef<[u8]>) -> Then {
        self.reply_with(status, "", body)
    }

    /// With further field lines.
    pub fn reply_with(&mut self, status: &str, fields: &str, body: impl AsRef<[u8]>) -> Then {
        if !self.body_read {
            self.body();
        }
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat())
    }

    /// Sends something whole.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Then {
        use std::io::Write;
        // Whom nobody listens to any more will find out when it reads.
        if self.wire.socket.write_all(bytes.as_ref()).is_ok() { Then::Next } else { Then::Close }
    }

    /// Sends something and ends the connection.
    pub fn send_and_close(&mut self, bytes: impl AsRef<[u8]>) -> Then {
        self.send(bytes);
        Then::Close
    }
}

/// What a server has seen so far.
#[derive(Default)]
pub struct Seen {
    connections: AtomicUsize,
    heads: Mutex<Vec<Head>>,
    /// What was wrong with requests: nothing ever may.
    faults: Mutex<Vec<String>>,
    /// Open connections by their numbers, so that the server's end can end them.
    sockets: Mutex<HashMap<usize, Socket>>,
    closing: AtomicBool,
}

/// A running server.
pub struct Server {
    pub address: Address,
    seen: Arc<Seen>,
    accepting: Option<JoinHandle<()>>,
}

trait Accept: Send + 'static {
    fn accept(&self) -> Option<Socket>;
}

impl Accept for TcpListener {
    fn accept(&self) -> Option<Socket> {
        let (stream, _) = TcpListener::accept(self).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Socket::Tcp(stream))
    }
}

impl Accept for UnixListener {
    fn accept(&self) -> Option<Socket> {
        Some(Socket::Unix(UnixListener::accept(self).ok()?.0))
    }
}

impl Server {
    /// A server on 127.0.0.1 whose requests `handle` answers.
    pub fn start(handle: impl Fn(&mut Visit<'_>) -> Then + Send + Sync + 'static) -> Server {
        Server::at("127.0.0.1:0", handle).unwrap()
    }

    pub fn at(
        address: &str,
        handle: impl Fn(&mut Visit<'_>) -> Then + Send + Sync + 'static,
    ) -> std::io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = Address::Tcp(listener.local_addr()?);
        Ok(Server::on(listener, address, handle))
    }

    pub fn at_path(path: &Path, handle: impl Fn(&mut Visit<'_>) -> Then + Send + Sync + 'static) -> Server {
        Server::on(UnixListener::bind(path).unwrap(), Address::Unix(path.to_owned()), handle)
    }

    fn on(
        listener: impl Accept,
        address: Address,
        handle: impl Fn(&mut Visit<'_>) -> Then + Send + Sync + 'static,
    ) -> Server {
        let seen = Arc::new(Seen::default());
        let (ours, handle) = (Arc::clone(&seen), Arc::new(handle));
        let accepting = thread::spawn(move || {
            while let Some(socket) = listener.accept() {
                if ours.closing.load(Ordering::SeqCst) {
                    return;
                }
                // The proxy decides how long a connection lives; the server's end decides too.
                let number = ours.connections.fetch_add(1, Ordering::SeqCst);
                ours.sockets.lock().unwrap().insert(number, socket.twin());
                let (seen, handle) = (Arc::clone(&ours), Arc::clone(&handle));
                thread::spawn(move || serve(Wire::new(socket), number, &seen, &*handle));
            }
        });
        Server { address, seen, accepting: Some(accepting) }
    }

    /// A server that says its name, and echoes what it gets.
    pub fn named(name: &'static str) -> Server {
        Server::start(move |visit| {
            let body = visit.body();
            let fields = format!("X-Server: {name}\r\nX-Length: {}\r\n", body.len());
            let text = if body.is_empty() { name.as_bytes().to_vec() } else { body };
            visit.reply_with("200 OK", &fields, text)
        })
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<Head> {
        self.seen.heads.lock().unwrap().clone()
    }

    /// Ends all connections as they are, with what is unread on either side.
    pub fn cut_all(&self, how: Shutdown) {
        self.seen.sockets.lock().unwrap().values().for_each(|socket| socket.shut(how));
    }
}

/// Lets go of a connection, also if its thread panics.
struct Lease<'a> {
    seen: &'a Seen,
    number: usize,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.seen.faults.lock().unwrap().push("a check in the server failed, see above".to_owned());
        }
        self.seen.sockets.lock().unwrap().remove(&self.number);
    }
}

fn serve(mut wire: Wire, number: usize, seen: &Seen, handle: &(dyn Fn(&mut Visit<'_>) -> Then + Send + Sync)) {
    let _lease = Lease { seen, number };
    if converse(&mut wire, seen, handle) == Then::Reset {
        wire.socket.reset();
    }
}

fn converse(wire: &mut Wire, seen: &Seen, handle: &(dyn Fn(&mut Visit<'_>) -> Then + Send + Sync)) -> Then {
    let fault = |what: &str| seen.faults.lock().unwrap().push(what.to_owned());
    for nth in 0.. {
        let head = match wire.head() {
            Ok(head) => head,
            Err(end) => {
                if let End::Malformed(what) = end {
                    fault(&what);
                }
                return Then::Close;
            }
        };
        seen.heads.lock().unwrap().push(head.clone());
        let mut visit = Visit { head, nth, wire, body_read: false, broken: None };
        let then = handle(&mut visit);
        if let Some(End::Malformed(what)) = &visit.broken {
            fault(what);
        }
        if then != Then::Next || visit.broken.is_some() {
            return then;
        }
    }
    Then::Close
}

impl Drop for Server {
    fn drop(&mut self) {
        self.seen.closing.store(true, Ordering::SeqCst);
        self.cut_all(Shutdown::Both);
        // Wakes the thread that accepts. If nobody listens any more, it is gone already.
        drop(self.address.connect());
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let faults = self.seen.faults.lock().unwrap();
        assert!(faults.is_empty() || thread::panicking(), "the proxy sent what is not HTTP: {faults:#?}");
    }
}

/// A port of our own, at which a server may come and go: between two servers it refuses everybody, and nobody else gets it.
pub struct Place {
    pub address: Address,
    #[expect(dead_code, reason = "bound, but not listening, it keeps the port")]
    kept: socket2::Socket,
}

impl Place {
    pub fn new() -> Place {
        let kept = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        // Both have to say so, or the server cannot be bound to the same port.
        kept.set_reuse_address(true).unwrap();
        kept.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = Address::Tcp(kept.local_addr().unwrap().as_socket().unwrap());
        Place { address, kept }
    }

    /// A server that says its name.
    pub fn named(&self, name: &'static str) -> Server {
        self.serve(move |visit| visit.reply("200 OK", name))
    }

    pub fn serve(&self, handle: impl Fn(&mut Visit<'_>) -> Then + Send + Sync + 'static) -> Server {
        Server::at(&self.address.to_string(), handle).unwrap()
    }
}
