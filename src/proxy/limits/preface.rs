//! The PROXY protocol, versions 1 and 2: what another proxy says about a connection before the first byte of it.
//!
//! Read only on listeners where it is expected, from addresses that are trusted with it; there it must come. After the specification
//! "The PROXY protocol, Versions 1 & 2" of HAProxy. The checksum that version 2 may carry is not verified: TCP has one of its own.

use crate::base::Peer;
use crate::base::peer::write_ip;
use crate::http1::encode::decimal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its CRLF.
pub const LONGEST_LINE: usize = 107;
/// The longest block of version 2 that is read here: room for certificates and names that nobody asked for.
pub const LONGEST_BLOCK: usize = 4096;

const LINE: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const BLOCK_HEAD: usize = 16;
const UNIX_ADDRESSES: usize = 216;

/// Whom the connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Client(SocketAddr),
    /// The sender speaks for itself (a probe), or does not know: the address of the connection is the right one.
    Local,
    /// A client of a Unix socket, which has no address.
    Unix,
}

/// Why a preface is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefaceFault {
    /// The connection begins with something else.
    Missing,
    /// A line of version 1 that is not as the specification has it.
    BadLine,
    /// Its protocol is none of TCP4, TCP6, UNKNOWN.
    BadProtocol,
    BadAddress,
    BadPort,
    /// A line without an end, or a block longer than is read here.
    TooLong,
    /// A block of another version than 2.
    BadVersion,
    /// Neither LOCAL nor PROXY.
    BadCommand,
    /// A family or transport that is not defined.
    BadFamily,
    /// A block too short for its addresses, or additions that do not fill it.
    BadLength,
}

impl PrefaceFault {
    /// The word in the access log.
    pub fn word(self) -> &'static str {
        match self {
            PrefaceFault::Missing => "no-preface",
            PrefaceFault::BadLine => "preface-line",
            PrefaceFault::BadProtocol => "preface-protocol",
            PrefaceFault::BadAddress => "preface-address",
            PrefaceFault::BadPort => "preface-port",
            PrefaceFault::TooLong => "preface-too-long",
            PrefaceFault::BadVersion => "preface-version",
            PrefaceFault::BadCommand => "preface-command",
            PrefaceFault::BadFamily => "preface-family",
            PrefaceFault::BadLength => "preface-length",
        }
    }
}

/// Reads a preface at the start of a connection: how long it is, and what it says; `None` as long as it is not complete. Whatever
/// is said of some bytes, but `None`, is said of them with any more bytes behind, too.
pub fn read(bytes: &[u8]) -> Result<Option<(usize, Source)>, PrefaceFault> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, with)| byte == with);
    if begins(LINE) {
        read_line(bytes)
    } else if begins(SIGNATURE) {
        read_block(bytes)
    } else {
        Err(PrefaceFault::Missing)
    }
}

fn read_line(bytes: &[u8]) -> Result<Option<(usize, Source)>, PrefaceFault> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    // The first of either must be a CRLF.
    let Some(end) = memchr::memchr2(b'\r', b'\n', within) else {
        return if within.len() < LONGEST_LINE { Ok(None) } else { Err(PrefaceFault::TooLong) };
    };
    match &within[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if within.len() < LONGEST_LINE => return Ok(None),
        [b'\r'] => return Err(PrefaceFault::TooLong),
        _ => return Err(PrefaceFault::BadLine),
    }
    let line = within[..end].strip_prefix(LINE).ok_or(PrefaceFault::BadLine)?;
    let line = std::str::from_utf8(line).ok().filter(|line| line.is_ascii()).ok_or(PrefaceFault::BadLine)?;
    Ok(Some((end + 2, source_of_line(line)?)))
}

/// `TCP4 source destination port port`, and so on, with single spaces.
fn source_of_line(line: &str) -> Result<Source, PrefaceFault> {
    let mut words = line.split(' ');
    let protocol = words.next().unwrap_or("");
    if protocol == "UNKNOWN" {
        // What follows means nothing.
        return Ok(Source::Local);
    }
    let parse = match protocol {
        "TCP4" => |word: &str| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word: &str| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(PrefaceFault::BadProtocol),
    };
    let mut next = || words.next().ok_or(PrefaceFault::BadLine);
    let (source, destination, port, other) = (next()?, next()?, next()?, next()?);
    if words.next().is_some() {
        return Err(PrefaceFault::BadLine);
    }
    let ip = parse(source).ok_or(PrefaceFault::BadAddress)?;
    parse(destination).ok_or(PrefaceFault::BadAddress)?;
    port_of(other)?;
    Ok(Source::Client(SocketAddr::new(ip, port_of(port)?)))
}

/// Decimal, without a sign or leading zeros.
fn port_of(word: &str) -> Result<u16, PrefaceFault> {
    let canonical = word == "0" || word.starts_with(|first: char| ('1'..='9').contains(&first));
    word.parse().ok().filter(|_| canonical).ok_or(PrefaceFault::BadPort)
}

fn read_block(bytes: &[u8]) -> Result<Option<(usize, Source)>, PrefaceFault> {
    let at = |index: usize| bytes.get(index).copied();
    if at(12).is_some_and(|byte| byte >> 4 != 2) {
        return Err(PrefaceFault::BadVersion);
    }
    if at(12).is_some_and(|byte| byte & 15 > 1) {
        return Err(PrefaceFault::BadCommand);
    }
    let local = at(12) == Some(0x20);
    if !local && at(13).is_some_and(|byte| !matches!(byte, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32)) {
        return Err(PrefaceFault::BadFamily);
    }
    let (Some(family), Some(high), Some(low)) = (at(13), at(14), at(15)) else { return Ok(None) };
    let end = BLOCK_HEAD + usize::from(u16::from_be_bytes([high, low]));
    if end > LONGEST_BLOCK {
        return Err(PrefaceFault::TooLong);
    }
    let Some(rest) = bytes.get(BLOCK_HEAD..end) else { return Ok(None) };
    // Who speaks for itself, or of something unknown, may add what it likes.
    let source = if local || family == 0 { Source::Local } else { source_of_block(family >> 4, rest)? };
    Ok(Some((end, source)))
}

fn source_of_block(family: u8, rest: &[u8]) -> Result<Source, PrefaceFault> {
    let (source, additions) = match family {
        1 => {
            let ([a, b, c, d, _, _, _, _, port @ .., _, _], rest) = head::<12>(rest)?;
            (Source::Client(SocketAddr::new([*a, *b, *c, *d].into(), u16::from_be_bytes(*port))), rest)
        }
        2 => {
            let (addresses, rest) = head::<36>(rest)?;
            let ip = addresses.first_chunk::<16>().ok_or(PrefaceFault::BadLength)?;
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            (Source::Client(SocketAddr::new((*ip).into(), port)), rest)
        }
        _ => (Source::Unix, head::<UNIX_ADDRESSES>(rest)?.1),
    };
    check_additions(additions)?;
    Ok(source)
}

fn head<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), PrefaceFault> {
    bytes.split_first_chunk().ok_or(PrefaceFault::BadLength)
}

/// Type, length (two bytes), value: as many as there are, to the end.
fn check_additions(mut rest: &[u8]) -> Result<(), PrefaceFault> {
    while !rest.is_empty() {
        let ([_, high, low], after) = head::<3>(rest)?;
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        rest = after.get(len..).ok_or(PrefaceFault::BadLength)?;
    }
    Ok(())
}

/// Which version is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

/// Appends a preface. `local` is the address that the client connected to; if that is unknown, the unspecified address and port 0 stand
/// for it, since without them the client's address could not be told either. A client without an address is UNKNOWN in version 1
/// and LOCAL in version 2; so is this proxy itself when it probes.
pub fn write(out: &mut Vec<u8>, version: Version, client: Peer, local: Option<SocketAddr>) {
    let pair = match client {
        Peer::Ip(client) => Some(of_one_family(client, local)),
        Peer::Unix => None,
    };
    match version {
        Version::One => write_line(out, pair),
        Version::Two => write_block(out, pair),
    }
}

/// Both addresses as IPv4 or both as IPv6.
fn of_one_family(client: SocketAddr, local: Option<SocketAddr>) -> (SocketAddr, SocketAddr) {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let client = canonical(client);
    let local = local.map(canonical).unwrap_or_else(|| match client {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    });
    if client.is_ipv4() == local.is_ipv4() { (client, local) } else { (as_ipv6(client), as_ipv6(local)) }
}

fn as_ipv6(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

fn write_line(out: &mut Vec<u8>, pair: Option<(SocketAddr, SocketAddr)>) {
    let Some((client, local)) = pair else { return out.extend_from_slice(b"PROXY UNKNOWN\r\n") };
    out.extend_from_slice(if client.is_ipv4() { b"PROXY TCP4 " } else { b"PROXY TCP6 " });
    write_ip(out, client.ip());
    out.push(b' ');
    write_ip(out, local.ip());
    for port in [client.port(), local.port()] {
        out.push(b' ');
        decimal(out, u64::from(port));
    }
    out.extend_from_slice(b"\r\n");
}

fn write_block(out: &mut Vec<u8>, pair: Option<(SocketAddr, SocketAddr)>) {
    out.extend_from_slice(SIGNATURE);
    let Some((client, local)) = pair else { return out.extend_from_slice(&[0x20, 0, 0, 0]) };
    out.extend_from_slice(if client.is_ipv4() { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
    for ip in [client.ip(), local.ip()] {
        match ip {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    for port in [client.port(), local.port()] {
        out.extend_from_slice(&port.to_be_bytes());
    }
}
