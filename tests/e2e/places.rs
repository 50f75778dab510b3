//! Where clients come in and where servers are: ports, both families, sockets, names.

use crate::house::{Start, proxy};
use crate::server::Server;
use crate::wire::{Address, Wire};
use std::net::TcpListener;
use tempfile::TempDir;

#[test]
fn unix_sockets_on_both_sides() {
    let folder = TempDir::new().unwrap();
    let server = Server::at_path(&folder.path().join("server"), |visit| {
        let body = visit.body();
        visit.reply("200 OK", body)
    });
    let listen = format!("unix:{}", folder.path().join("proxy").display());
    let mut proxy = Start::proxy().to(&[&server]).arg("--listen").arg(&listen).run();
    assert_eq!(proxy.address().to_string(), listen);
    let mut client = proxy.client();
    for n in 0..10 {
        assert_eq!(client.post("/", format!("body {n}").as_bytes()).text(), format!("body {n}"));
    }
    let big = vec![b'x'; 3_000_000];
    let mut sender = client.socket.twin();
    let request = crate::wire::post("/", &big);
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &request).unwrap());
    assert_eq!(client.answer().body, big);
    sending.join().unwrap();
    assert_eq!(server.connections(), 1);
    // A client without an address has none to tell.
    assert_eq!(server.heads()[0].fields.get("x-forwarded-for"), None);
    drop(client);
    proxy.stop();
    let line = &proxy.log(11)[0];
    assert_eq!((line.client.as_str(), line.get("upstream")), ("unix:", server.address.to_string().as_str()));
}

#[test]
fn ipv6_on_both_sides() {
    let Ok(server) = Server::at("[::1]:0", |visit| visit.reply("200 OK", "six")) else {
        eprintln!("skipped: this machine has no ::1");
        return;
    };
    let mut proxy = proxy(&[&server], "--listen [::1]:0");
    assert!(matches!(proxy.address(), Address::Tcp(address) if address.is_ipv6() && address.port() != 0));
    assert_eq!(proxy.client().get("/").text(), "six");
    assert_eq!(server.heads()[0].fields.get("x-forwarded-for"), Some("::1"));
    proxy.stop();
    let line = &proxy.log(1)[0];
    assert_eq!((line.client.as_str(), line.get("upstream")), ("::1", server.address.to_string().as_str()));
}

#[test]
fn several_listeners_of_all_kinds() {
    let folder = TempDir::new().unwrap();
    let server = Server::named("a");
    let mut start = Start::proxy().to(&[&server]).args("--workers 2 --listen 127.0.0.1:0 --listen 127.0.0.1:0");
    if TcpListener::bind("[::1]:0").is_ok() {
        start = start.args("--listen [::1]:0");
    }
    let proxy = start.arg("--listen").arg(format!("unix:{}", folder.path().join("s").display())).run();
    assert!(proxy.addresses.len() >= 3);
    for address in &proxy.addresses {
        for _ in 0..3 {
            assert_eq!(Wire::to(address).get("/").status, 200, "{address}");
        }
    }
    assert_ne!(proxy.addresses[0], proxy.addresses[1]);
}

#[test]
fn a_name_with_two_addresses_of_which_one_is_dead_serves_everything() {
    // `localhost` is often both 127.0.0.1 and ::1, and the server listens on one of them only.
    let server = Server::named("a");
    let Address::Tcp(address) = &server.address else { panic!("it is a port") };
    let proxy = Start::proxy().arg("--upstream").arg(format!("localhost:{}", address.port())).run();
    for _ in 0..6 {
        let mut client = proxy.client();
        assert_eq!(client.get("/").status, 200);
        assert_eq!(client.post("/", b"once").text(), "once");
    }
    assert_eq!(server.heads().len(), 12);
}

#[test]
fn a_request_without_a_host_gets_the_servers_name() {
    let server = Server::named("a");
    let proxy = proxy(&[&server], "");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(server.heads()[0].fields.get("host"), Some(server.address.to_string().as_str()));
}

#[test]
fn a_socket_that_nobody_listens_on_is_a_server_that_refuses() {
    let folder = TempDir::new().unwrap();
    let (none, stale) = (folder.path().join("none"), folder.path().join("stale"));
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for path in [none, stale] {
        let mut proxy = Start::proxy().arg("--upstream").arg(format!("unix:{}", path.display())).run();
        assert_eq!(proxy.client().get("/").status, 502);
        proxy.stop();
        assert_eq!(proxy.log(1)[0].end, "upstream-refused");
        let good = Server::named("good");
        let proxy = Start::proxy().arg("--upstream").arg(format!("unix:{}", path.display())).to(&[&good]).run();
        assert!((0..4).all(|_| proxy.client().post("/", b"x").status == 200));
    }
}
