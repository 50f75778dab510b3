//! Prefaces as the specification shows them, and many that it does not allow.

use crate::base::Peer;
use crate::proxy::limits::preface::{LONGEST_BLOCK, LONGEST_LINE, read, write};
use crate::proxy::limits::{PrefaceFault, Source, Version};
use proptest::prelude::*;
use std::net::SocketAddr;

fn client(addr: &str) -> Source {
    Source::Client(addr.parse().unwrap())
}

/// Reads the preface whole, each beginning of it, and the whole with more behind: no verdict may change.
fn verdict(bytes: &[u8]) -> Result<Option<(usize, Source)>, PrefaceFault> {
    let whole = read(bytes);
    let mut more = bytes.to_vec();
    for cut in 0..bytes.len() {
        let part = read(&bytes[..cut]);
        assert!(part == Ok(None) || part == whole, "{part:?} after {cut} bytes, then {whole:?}");
    }
    if whole != Ok(None) {
        more.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(read(&more), whole);
    }
    whole
}

#[test]
fn lines_of_version_1() {
    let longest =
        "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let six = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    for (line, source) in [
        ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", client("192.0.2.1:56324")),
        ("PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", client("255.255.255.255:0")),
        ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", client("[2001:db8::1]:1")),
        (longest, client(six)),
        ("PROXY UNKNOWN\r\n", Source::Local),
        ("PROXY UNKNOWN ffff::1 whatever  65535\r\n", Source::Local),
    ] {
        assert_eq!(verdict(line.as_bytes()), Ok(Some((line.len(), source))), "{line}");
    }
}

#[test]
fn lines_that_are_not_exactly_so_are_refused() {
    use PrefaceFault::*;
    for (line, fault) in [
        ("GET / HTTP/1.1\r\n", Missing),
        ("proxy TCP4", Missing),
        ("PROXY\r\n", Missing),
        ("PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", BadProtocol),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", BadLine),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", BadLine),
        ("PROXY TCP4 192.0.2.1 192.0.2.2  1 2\r\n", BadLine),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", BadLine),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rX", BadLine),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\u{e9}\r\n", BadLine),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", BadAddress),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", BadAddress),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", BadAddress),
        ("PROXY TCP4 192.0.2.1 192.0.2 1 2\r\n", BadAddress),
        ("PROXY TCP6 fe80::1%1 ::1 1 2\r\n", BadAddress),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", BadPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n", BadPort),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", BadPort),
        ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", BadProtocol),
        ("PROXY UNKNOWNX\r\n", BadProtocol),
        ("PROXY \r\n", BadProtocol),
        ("PROXY UNKNOWN\0\r\n", BadProtocol),
    ] {
        assert_eq!(verdict(line.as_bytes()), Err(fault), "{line:?}");
    }
    let pad = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
    assert_eq!(verdict(pad(LONGEST_LINE).as_bytes()), Ok(Some((LONGEST_LINE, Source::Local))));
    assert_eq!(verdict(pad(LONGEST_LINE + 1).as_bytes()), Err(TooLong));
    assert_eq!(verdict(pad(LONGEST_LINE + 2).as_bytes()), Err(TooLong));
}

/// A block of version 2 with this version and command, family and transport, and so much behind.
fn block(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
    out.extend_from_slice(rest);
    out
}

const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 187];

fn six() -> Vec<u8> {
    let mut rest = vec![0x20, 0x01, 0x0d, 0xb8];
    rest.resize(36, 0);
    (rest[15], rest[32], rest[33]) = (1, 1, 2);
    rest
}

#[test]
fn blocks_of_version_2() {
    for (command, family, rest, source) in [
        (0x21, 0x11, FOUR.to_vec(), client("192.0.2.1:56324")),
        (0x21, 0x12, FOUR.to_vec(), client("192.0.2.1:56324")),
        (0x21, 0x21, six(), client("[2001:db8::1]:258")),
        (0x21, 0x11, [&FOUR[..], &[1, 0, 2, b'h', b'2', 4, 0, 0]].concat(), client("192.0.2.1:56324")),
        (0x21, 0x31, vec![7; 216], Source::Unix),
        (0x21, 0x00, vec![], Source::Local),
        (0x21, 0x00, vec![1, 2], Source::Local),
        (0x20, 0x00, vec![], Source::Local),
        (0x20, 0xff, vec![1, 2, 3], Source::Local),
        (0x20, 0x11, FOUR.to_vec(), Source::Local),
    ] {
        let bytes = block(command, family, &rest);
        assert_eq!(verdict(&bytes), Ok(Some((bytes.len(), source))), "{command:x} {family:x} {rest:?}");
    }
    let largest = block(0x20, 0, &[0; LONGEST_BLOCK - 16]);
    assert_eq!(verdict(&largest), Ok(Some((LONGEST_BLOCK, Source::Local))));
}

#[test]
fn blocks_that_are_not_exactly_so_are_refused() {
    use PrefaceFault::*;
    for (command, family, rest, fault) in [
        (0x11, 0x11, FOUR.to_vec(), BadVersion),
        (0x31, 0x11, FOUR.to_vec(), BadVersion),
        (0x22, 0x11, FOUR.to_vec(), BadCommand),
        (0x21, 0x41, FOUR.to_vec(), BadFamily),
        (0x21, 0x13, FOUR.to_vec(), BadFamily),
        (0x21, 0x10, FOUR.to_vec(), BadFamily),
        (0x21, 0x01, vec![], BadFamily),
        (0x21, 0x11, FOUR[..11].to_vec(), BadLength),
        (0x21, 0x21, FOUR.to_vec(), BadLength),
        (0x21, 0x31, vec![0; 215], BadLength),
        (0x21, 0x11, [&FOUR[..], &[1, 0]].concat(), BadLength),
        (0x21, 0x11, [&FOUR[..], &[1, 0, 3, 1, 2]].concat(), BadLength),
        (0x20, 0x00, vec![0; LONGEST_BLOCK - 15], TooLong),
    ] {
        assert_eq!(verdict(&block(command, family, &rest)), Err(fault), "{command:x} {family:x} {rest:?}");
    }
    assert_eq!(verdict(b"\r\n\r\n\0\r\nQUIT\r"), Err(Missing));
    assert_eq!(verdict(b"\r\nGET"), Err(Missing));
    assert_eq!((verdict(b""), verdict(b"P"), verdict(b"\r")), (Ok(None), Ok(None), Ok(None)));
}

fn written(version: Version, peer: &str, local: Option<&str>) -> Vec<u8> {
    let peer = if peer == "unix" { Peer::Unix } else { Peer::Ip(peer.parse().unwrap()) };
    let mut out = Vec::new();
    write(&mut out, version, peer, local.map(|local| local.parse().unwrap()));
    out
}

#[test]
fn what_is_written_is_what_the_specification_shows() {
    for (peer, local, line) in [
        ("192.0.2.1:56324", Some("198.51.100.1:443"), "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"),
        ("[::ffff:192.0.2.1]:1", Some("[::ffff:192.0.2.2]:2"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        ("[2001:db8::1]:1", Some("[2001:db8::2]:2"), "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
        ("[2001:db8::1]:1", Some("192.0.2.2:2"), "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 2\r\n"),
        ("192.0.2.1:1", None, "PROXY TCP4 192.0.2.1 0.0.0.0 1 0\r\n"),
        ("[2001:db8::1]:1", None, "PROXY TCP6 2001:db8::1 :: 1 0\r\n"),
        ("unix", Some("192.0.2.2:2"), "PROXY UNKNOWN\r\n"),
    ] {
        assert_eq!(String::from_utf8(written(Version::One, peer, local)).unwrap(), line);
    }
    assert_eq!(written(Version::Two, "192.0.2.1:56324", Some("198.51.100.1:443")), block(0x21, 0x11, &FOUR));
    assert_eq!(written(Version::Two, "[2001:db8::1]:258", None), block(0x21, 0x21, &six()));
    assert_eq!(written(Version::Two, "unix", None), block(0x20, 0, &[]));
}

proptest! {
    #[test]
    fn what_was_written_reads_back(ip: [u8; 16], four: bool, port: u16, local: Option<([u8; 16], u16)>, two: bool) {
        let ip = if four { [ip[0], ip[1], ip[2], ip[3]].into() } else { ip.into() };
        let client = SocketAddr::new(ip, port);
        let local = local.map(|(ip, port)| SocketAddr::new(ip.into(), port));
        let mut out = Vec::new();
        write(&mut out, if two { Version::Two } else { Version::One }, Peer::Ip(client), local);
        let Ok(Some((len, Source::Client(read)))) = verdict(&out) else { panic!("{out:?}") };
        prop_assert_eq!((len, Peer::Ip(read).to_string()), (out.len(), Peer::Ip(client).to_string()));
    }

    #[test]
    fn no_verdict_changes_with_more_bytes(bytes: Vec<u8>, start in 0..4usize, cut in 0..60usize) {
        let mut start = [&b""[..], b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b"PROXY UNKNOWN"][start].to_vec();
        start.truncate(cut);
        start.extend_from_slice(&bytes);
        let _ = verdict(&start);
    }
}
