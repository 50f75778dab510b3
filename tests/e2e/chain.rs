//! Other proxies in front of this one and servers behind it that want to know the client: the PROXY protocol, X-Forwarded-For.

use crate::files::ask;
use crate::house::{Line, Program, Start, proxy};
use crate::server::Server;
use crate::wire::{Answer, Framing, Socket, Wire, get};
use socket2::SockRef;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use tempfile::TempDir;

/// What an answer's server was told of the client: it echoes the fields.
fn echo() -> Server {
    Server::start(|visit| {
        let fields: Vec<_> = visit.head.fields.0.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        visit.reply("200 OK", fields.concat())
    })
}

fn forwarded_for(answer: &Answer) -> String {
    let line = answer.text().lines().find_map(|line| line.strip_prefix("X-Forwarded-For: "));
    line.unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

// ---- the PROXY protocol from those before

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let head = [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &(rest.len() as u16).to_be_bytes()].concat();
    [&head[..], rest].concat()
}

#[test]
fn a_preface_says_who_the_client_is() {
    let server = echo();
    let mut proxy = proxy(&[&server], "--proxy-protocol 127.0.0.1 --forwarded replace");
    let v4 = [192, 0, 2, 4, 127, 0, 0, 1, 0x30, 0x39, 0, 80];
    let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[6], &[0; 15], &[1], &[0x30, 0x39, 0, 80]].concat();
    let cases: [(Vec<u8>, &str); 7] = [
        (b"PROXY TCP4 192.0.2.1 127.0.0.1 12345 80\r\n".to_vec(), "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 12345 80\r\n".to_vec(), "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(1, 0x11, &v4), "192.0.2.4"),
        // With an addition that nobody here knows.
        (v2(1, 0x11, &[&v4[..], &[0xee, 0, 3, 1, 2, 3]].concat()), "192.0.2.4"),
        (v2(1, 0x21, &six), "2001:db8::6"),
        (v2(0, 0, &[]), "127.0.0.1"),
    ];
    for (nth, (preface, ip)) in cases.iter().enumerate() {
        let mut client = proxy.client();
        if nth % 2 == 0 {
            client.send([&preface[..], get("/").as_bytes()].concat());
        } else {
            preface.iter().for_each(|byte| client.send([*byte]));
            client.send(get("/"));
        }
        assert_eq!(forwarded_for(&client.answer()), *ip);
        // It holds for the whole connection.
        assert_eq!(forwarded_for(&client.get("/")), *ip);
    }
    proxy.stop();
    let expected: Vec<_> = cases.iter().flat_map(|(_, ip)| [*ip, *ip]).collect();
    assert_eq!(proxy.log(14).iter().map(|line| line.client.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn who_should_begin_with_a_preface_and_does_not_is_not_answered() {
    let server = echo();
    let mut proxy = proxy(&[&server], "--proxy-protocol 127.0.0.1 --client-head-timeout 300ms");
    let wrong: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 12345\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 99999 80\r\n",
        b"PROXY SCTP 192.0.2.1 127.0.0.1 1 80\r\n",
        &v2(1, 0x11, &[192, 0, 2]),
        &v2(7, 0x11, &[0; 12]),
        &[b'P'; 200],
    ];
    for bytes in wrong {
        let mut client = proxy.client();
        client.send(bytes);
        let (rest, _) = client.rest();
        assert_eq!(String::from_utf8_lossy(&rest), "", "{:?}", String::from_utf8_lossy(bytes));
    }
    // Half of one that is never completed.
    let mut half = proxy.client();
    half.send("PROXY TCP4 192.0");
    let (rest, _) = half.rest();
    assert_eq!(String::from_utf8_lossy(&rest), "");
    drop(half);
    proxy.stop();
    assert!(server.heads().is_empty());
    let lines = proxy.log(9);
    // Its word is followed by what was wrong.
    assert_eq!(lines.iter().filter(|line| line.end.starts_with("bad-preface")).count(), 8, "{lines:#?}");
}

#[test]
fn a_preface_of_others_is_a_bad_request() {
    let server = echo();
    let proxy = proxy(&[&server], "--proxy-protocol 127.0.0.1");
    let mut client = proxy.client_from("127.0.0.2");
    client.send("PROXY TCP4 192.0.2.1 127.0.0.1 12345 80\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    assert_eq!(forwarded_for(&proxy.client_from("127.0.0.2").get("/")), "127.0.0.2");
}

#[test]
fn limits_go_by_the_address_in_the_preface() {
    let server = echo();
    let args = "--proxy-protocol 127.0.0.1 --deny 192.0.2.66 --client-connections 1 --client-rate 2/h";
    let proxy = proxy(&[&server], args);
    let from = |ip: &str| {
        let mut client = proxy.client();
        client.send(format!("PROXY TCP4 {ip} 127.0.0.1 12345 80\r\n{}", get("/")));
        let status = client.answer().status;
        (client, status)
    };
    assert_eq!(from("192.0.2.66").1, 403);
    let (mut first, status) = from("192.0.2.1");
    assert_eq!(status, 200);
    assert_eq!(from("192.0.2.1").1, 429);
    assert_eq!(from("192.0.2.2").1, 200);
    assert_eq!((first.get("/").status, first.get("/").status), (200, 429));
}

// ---- and towards those behind

/// A server that wants a preface on each connection: it tells of each, and how many requests followed.
fn prefaced(connections: usize) -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), channel());
    let converse = move |mut wire: Wire| {
        let mut preface = Vec::new();
        while !preface.ends_with(b"\r\n") || preface.starts_with(b"\r\n") {
            wire.body(Framing::Length(1), &mut |byte| preface.extend_from_slice(byte)).unwrap();
            if preface.starts_with(b"\r\n") && preface.len() == 16 {
                let length = u64::from(preface[14]) << 8 | u64::from(preface[15]);
                wire.body(Framing::Length(length), &mut |bytes| preface.extend_from_slice(bytes)).unwrap();
                break;
            }
        }
        tell.send(preface).unwrap();
        while let Ok(head) = wire.head() {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", head.target().len(), head.target());
            if wire.socket.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            let (stream, converse) = (stream.unwrap(), converse.clone());
            thread::spawn(move || converse(Wire::new(Socket::Tcp(stream))));
        }
    });
    (address, told)
}

fn address_of(client: &Wire) -> SocketAddr {
    SockRef::from(&client.socket).local_addr().unwrap().as_socket().unwrap()
}

#[test]
fn each_connection_to_a_server_begins_with_its_own_clients_preface() {
    for version in ["v1", "v2"] {
        let (address, prefaces) = prefaced(64);
        let start = Start::proxy().arg("--upstream").arg(address.to_string());
        let proxy = start.args(&format!("--send-proxy {version}")).run();
        let listening = proxy.address().to_string();
        for ip in ["127.0.0.1", "127.0.0.7", "127.0.0.1"] {
            let mut client = proxy.client_from(ip);
            let source = address_of(&client);
            let expected = match version {
                "v1" => format!("PROXY TCP4 {ip} 127.0.0.1 {} {}\r\n", source.port(), proxy.port()).into_bytes(),
                _ => {
                    let SocketAddr::V4(v4) = source else { panic!("{source}") };
                    let ports = [v4.port().to_be_bytes(), proxy.port().to_be_bytes()].concat();
                    v2(1, 0x11, &[&v4.ip().octets()[..], &[127, 0, 0, 1], &ports].concat())
                }
            };
            for n in 0..3 {
                assert_eq!(client.get(&format!("/{n}")).text(), format!("/{n}"), "{listening}");
            }
            // Whether one connection or several: all are this client's.
            let mut came: Vec<_> = prefaces.try_iter().collect();
            assert!(!came.is_empty());
            came.dedup();
            assert_eq!(came, [expected]);
        }
    }
}

#[test]
fn a_preface_is_passed_on_with_the_address_that_came() {
    let (address, prefaces) = prefaced(8);
    let start = Start::proxy().arg("--upstream").arg(address.to_string());
    let proxy = start.args("--send-proxy v1 --proxy-protocol 127.0.0.1").run();
    let mut client = proxy.client();
    client.send(format!("PROXY TCP4 192.0.2.1 198.51.100.1 12345 80\r\n{}", get("/a")));
    assert_eq!(client.answer().text(), "/a");
    let preface = String::from_utf8(prefaces.recv().unwrap()).unwrap();
    assert!(preface.starts_with("PROXY TCP4 192.0.2.1 ") && preface.contains(" 12345 "), "{preface}");
}

#[test]
fn checks_begin_with_a_preface_of_the_proxys_own() {
    for (version, expected) in [("v1", b"PROXY UNKNOWN\r\n".to_vec()), ("v2", v2(0, 0, &[]))] {
        let (address, prefaces) = prefaced(64);
        let start = Start::proxy().arg("--upstream").arg(address.to_string());
        let check = "--health-check /health --health-interval 500ms";
        let proxy = start.args(&format!("--send-proxy {version}")).args(check).run();
        assert_eq!(prefaces.recv().unwrap(), expected);
        prefaces.recv().unwrap();
        assert_eq!(proxy.client().get("/a").text(), "/a", "a server that insists on it is up");
    }
}

// ---- X-Forwarded-For

#[test]
fn only_trusted_proxies_are_believed_about_the_client() {
    let server = echo();
    let mut proxy = proxy(&[&server], "--trusted-proxies 127.0.0.1,10.0.0.0/8");
    let ask_from = |proxy: &Program, ip: &str, list: &str| {
        forwarded_for(&ask(&mut proxy.client_from(ip), "GET", "/", &format!("X-Forwarded-For: {list}\r\n")))
    };
    // From whom, what it says, what the server is told, who it was.
    let cases = [
        ("127.0.0.1", "192.0.2.1", "192.0.2.1, 127.0.0.1", "192.0.2.1"),
        ("127.0.0.1", "203.0.113.5, 192.0.2.1, 10.1.2.3", "203.0.113.5, 192.0.2.1, 10.1.2.3, 127.0.0.1", "192.0.2.1"),
        ("127.0.0.1", "unknown", "unknown, 127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "192.0.2.1", "127.0.0.2", "127.0.0.2"),
    ];
    for (ip, list, told, _) in cases {
        assert_eq!(ask_from(&proxy, ip, list), told);
    }
    proxy.stop();
    // The log has the client itself.
    let clients: Vec<String> = proxy.log(4).into_iter().map(|line: Line| line.client).collect();
    assert_eq!(clients, cases.map(|(.., client)| client));
}

#[test]
fn a_proxy_on_this_machine_is_trusted_by_its_socket() {
    let (server, folder) = (echo(), TempDir::new().unwrap());
    let listen = format!("unix:{}", folder.path().join("proxy").display());
    let start = Start::proxy().to(&[&server]).arg("--listen").arg(listen);
    let mut proxy = start.args("--trusted-proxies unix --client-rate 1/h").run();
    let ask_for = |ip: &str| ask(&mut proxy.client(), "GET", "/", &format!("X-Forwarded-For: {ip}\r\n"));
    assert!(forwarded_for(&ask_for("192.0.2.1")).starts_with("192.0.2.1"));
    assert_eq!((ask_for("192.0.2.1").status, ask_for("192.0.2.2").status), (429, 200));
    proxy.stop();
    let clients: Vec<String> = proxy.log(3).into_iter().map(|line: Line| line.client).collect();
    assert_eq!(clients, ["192.0.2.1", "192.0.2.1", "192.0.2.2"]);
}
