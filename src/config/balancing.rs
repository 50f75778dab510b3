//! Which server a request goes to: the options, and what they come to.

use crate::base::Micros;
use crate::base::time::SECOND;
use crate::config::Exit;
use crate::config::values;
use crate::http1::field::is_token;
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancing {
    pub method: Balance,
    /// Nothing if clients need not stay with a server.
    pub sticky: Option<Sticky>,
    /// How long a server that came back takes to its full share; 0: it has it at once.
    pub slow_start: Micros,
    /// Nothing if a server may have any number of requests at a time.
    pub ceiling: Option<Ceiling>,
}

/// How a server is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn, by weight.
    RoundRobin,
    /// The one with the fewest requests for its weight.
    Least,
    /// The less congested of two drawn by lot.
    TwoChoices,
    /// Always the same for the same key.
    Hash(HashBy),
}

/// The key of [`Balance::Hash`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// The client's, without the port.
    Address,
    /// That of the request, without its query.
    Path,
    /// A field of the request, a token as it was written.
    Header(String),
    /// A cookie's value; the name is a token.
    Cookie(String),
}

/// A cookie keeps a client with its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// Its name, a token.
    pub cookie: String,
    /// The file of the secret that signs it; without one a secret is made at the start.
    pub key: Option<PathBuf>,
}

/// How many requests a server gets at a time, and how the others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Per server, of all workers together, 1 or more.
    pub requests: u32,
    /// Requests that may wait for a server; 0: none.
    pub queue: u32,
    /// How long one waits at the most.
    pub wait: Micros,
}

/// A shorter secret could be guessed.
const SHORTEST_KEY: usize = 16;

/// What is longer is no secret but some other file.
const LONGEST_KEY: usize = 4096;

impl Sticky {
    /// The secret in the file, 16 to 4096 bytes, without a line end behind it, which editors add; nothing without a file.
    pub fn read_key(&self) -> Result<Option<Vec<u8>>, Exit> {
        self.key.as_deref().map(read_key).transpose()
    }
}

fn read_key(path: &Path) -> Result<Vec<u8>, Exit> {
    let complaint = |why: String| Exit::cannot_start(format!("--sticky-key '{}' {why}", path.display()));
    let mut key = Vec::new();
    // A device such as /dev/zero has no end.
    let read = File::open(path).and_then(|file| file.take(LONGEST_KEY as u64 + 1).read_to_end(&mut key));
    read.map_err(|error| complaint(why_no_key(&error)))?;
    if key.len() > LONGEST_KEY {
        return Err(complaint(format!(
            "is longer than {LONGEST_KEY} bytes: name the file that holds the secret alone"
        )));
    }
    if key.last() == Some(&b'\n') {
        key.pop();
    }
    match key.len() {
        SHORTEST_KEY.. => Ok(key),
        bytes => Err(complaint(format!(
            "has {bytes} bytes, and a secret at least {SHORTEST_KEY}: make one with 'head -c 32 /dev/urandom'"
        ))),
    }
}

fn why_no_key(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist: make it with 'head -c 32 /dev/urandom', or leave it out".to_owned(),
        ErrorKind::IsADirectory => "is a folder: name the file that holds the secret".to_owned(),
        _ => format!("cannot be read ({error}): check its permissions, or name another file"),
    }
}

const QUEUE: u32 = 1024;
const QUEUE_TIMEOUT: Micros = 5 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    #[value(alias = "rr")]
    RoundRobin,
    #[value(aliases = ["least-connections", "leastconn", "least-conn"])]
    Least,
    #[value(alias = "p2c")]
    TwoChoices,
    Hash,
}

/// What is written on the command line. Options that depend on others have no default of clap's, so that it is seen
/// whether they were given; their help names the default.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Balancing")]
pub struct BalancingOptions {
    /// round-robin, least, two-choices or hash
    #[arg(long, value_name = "METHOD", default_value = "round-robin", hide_possible_values = true)]
    balance: Method,

    /// address, path, header:NAME or cookie:NAME [default: address]
    #[arg(long, value_name = "KEY", value_parser = HashBy::parse)]
    hash_by: Option<HashBy>,

    /// A cookie that keeps a client with its server
    #[arg(long, value_name = "NAME", value_parser = cookie_name)]
    sticky_cookie: Option<String>,

    /// The secret that signs it [default: made at the start]
    #[arg(long, value_name = "FILE")]
    sticky_key: Option<PathBuf>,

    /// A server that came back: until it has its full share
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::timeout_or_none)]
    slow_start: Micros,

    /// Connections at a time per server, idle ones too [default: any number]
    #[arg(long, value_name = "N", value_parser = server_connections)]
    server_connections: Option<u32>,

    /// Requests that may wait for a server [default: 1024]
    #[arg(long, value_name = "N", value_parser = queue)]
    queue: Option<u32>,

    /// How long one waits; then 503 [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = values::timeout)]
    queue_timeout: Option<Micros>,
}

impl BalancingOptions {
    /// What they come to. Options without effect are refused.
    pub fn check(self) -> Result<Balancing, String> {
        let ceiling = self.ceiling()?;
        let method = match (self.balance, self.hash_by) {
            (Method::Hash, key) => Balance::Hash(key.unwrap_or(HashBy::Address)),
            (_, Some(_)) => return Err("--hash-by needs --balance hash: add it, or leave --hash-by out".to_owned()),
            (Method::RoundRobin, None) => Balance::RoundRobin,
            (Method::Least, None) => Balance::Least,
            (Method::TwoChoices, None) => Balance::TwoChoices,
        };
        let sticky = match (self.sticky_cookie, self.sticky_key) {
            (Some(cookie), key) => Some(Sticky { cookie, key }),
            (None, Some(_)) => {
                return Err(
                    "--sticky-key signs the cookie of --sticky-cookie: add it, or leave --sticky-key out".into()
                );
            }
            (None, None) => None,
        };
        Ok(Balancing { method, sticky, slow_start: self.slow_start, ceiling })
    }

    fn ceiling(&self) -> Result<Option<Ceiling>, String> {
        let Some(requests) = self.server_connections else {
            let given = [("--queue", self.queue.is_some()), ("--queue-timeout", self.queue_timeout.is_some())];
            return match given.iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(format!(
                    "{option} is for requests that wait because of --server-connections: add it, or leave {option} out"
                )),
                None => Ok(None),
            };
        };
        if self.queue == Some(0) && self.queue_timeout.is_some() {
            return Err("--queue-timeout is given, but with --queue 0 no request waits: leave one of them out".into());
        }
        let (queue, wait) = (self.queue.unwrap_or(QUEUE), self.queue_timeout.unwrap_or(QUEUE_TIMEOUT));
        Ok(Some(Ceiling { requests, queue, wait }))
    }
}

impl HashBy {
    fn parse(text: &str) -> Result<HashBy, String> {
        match text.split_once(':') {
            None if text == "address" => Ok(HashBy::Address),
            None if text == "path" => Ok(HashBy::Path),
            Some(("header", name)) => {
                token(name, "header:X-User").map(HashBy::Header).map_err(|error| format!("{error}, not '{name}'"))
            }
            Some(("cookie", name)) => {
                token(name, "cookie:session").map(HashBy::Cookie).map_err(|error| format!("{error}, not '{name}'"))
            }
            _ if text == "header" || text == "cookie" => Err(format!("the name is missing: write {text}:NAME")),
            _ => Err("not a key: write address, path, header:NAME or cookie:NAME".to_owned()),
        }
    }
}

/// A token (RFC 6265 §4.1.1), and none that promises `Secure`, without which browsers throw the cookie away.
fn cookie_name(text: &str) -> Result<String, String> {
    let starts = |prefix: &&str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    match ["__Host-", "__Secure-", "__Http-", "__Host-Http-"].iter().find(|prefix| starts(prefix)) {
        Some(prefix) => Err(format!(
            "browsers keep no cookie named {prefix}... that is not Secure, as this one: write for example server"
        )),
        None => token(text, "server"),
    }
}

/// A name that a field or a cookie can have.
fn token(name: &str, example: &str) -> Result<String, String> {
    if is_token(name.as_bytes()) {
        Ok(name.to_owned())
    } else {
        Err(format!("a name is of letters, digits and -_.: write for example {example}"))
    }
}

fn server_connections(text: &str) -> Result<u32, String> {
    values::number(text, 1, 1_000_000).map(|number| number as u32)
}

fn queue(text: &str) -> Result<u32, String> {
    values::number(text, 0, 1_000_000).map(|number| number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(HashBy::parse("address"), Ok(HashBy::Address));
        assert_eq!(HashBy::parse("path"), Ok(HashBy::Path));
        assert_eq!(HashBy::parse("header:X-User"), Ok(HashBy::Header("X-User".to_owned())));
        assert_eq!(HashBy::parse("cookie:sid"), Ok(HashBy::Cookie("sid".to_owned())));
    }

    #[test]
    fn wrong_keys_say_what_to_write() {
        let names = "a name is of letters, digits and -_.: write for example";
        let cases = [
            ("header", "the name is missing: write header:NAME".to_owned()),
            ("cookie:", format!("{names} cookie:session, not ''")),
            ("header:a b", format!("{names} header:X-User, not 'a b'")),
            ("ip", "not a key: write address, path, header:NAME or cookie:NAME".to_owned()),
            ("path:/a", "not a key: write address, path, header:NAME or cookie:NAME".to_owned()),
        ];
        for (text, message) in cases {
            assert_eq!(HashBy::parse(text).unwrap_err(), message, "{text}");
        }
        assert_eq!(cookie_name("a;b").unwrap_err(), format!("{names} server"));
        assert!(["srv", "PILB-SERVER", "a_b.c!", "__Hostile"].iter().all(|name| cookie_name(name).is_ok()));
        for name in ["__Host-a", "__secure-a", "__Http-", "__Host-Http-x"] {
            assert!(cookie_name(name).unwrap_err().contains("not Secure"), "{name}");
        }
    }

    #[test]
    fn a_secret_is_long_enough_and_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let write = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_key(&path).map_err(|exit| (exit.code, exit.message))
        };
        assert_eq!(write(&[b'k'; 16]), Ok(vec![b'k'; 16]));
        assert_eq!(write(b"0123456789abcdef\n"), Ok(b"0123456789abcdef".to_vec()));
        assert_eq!(write(&[10; 32]), Ok(vec![10; 31]));
        let shown = path.display();
        let short = format!(
            "--sticky-key '{shown}' has 15 bytes, and a secret at least 16: make one with 'head -c 32 /dev/urandom'"
        );
        assert_eq!(write(b"0123456789abcde\n"), Err((1, short)));
        assert!(read_key(Path::new("/dev/zero")).unwrap_err().message.contains("is longer than 4096 bytes"));
        assert!(read_key(folder.path()).unwrap_err().message.contains("is a folder"));
        assert!(read_key(&folder.path().join("none")).unwrap_err().message.contains("does not exist"));
        let made_at_the_start = Sticky { cookie: "c".to_owned(), key: None };
        assert_eq!(made_at_the_start.read_key(), Ok(None));
    }
}
