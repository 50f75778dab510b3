//! A world without sockets, threads and time: the real proxy app between scripted clients and servers.
//!
//! [`script`] reads files of scripts, [`text`] their byte strings and patterns, [`wire`] is a socket as both sides see it, [`world`]
//! plays the loop's part (fill, advance, settle, flush, as in `src/net/turn.rs`), [`play`] performs a script on a world.
//!
//! # The language
//!
//! ```text
//! script: a-name                     # begins a script; comments are whole lines
//! servers 3                          # default 1
//! set client_head 5s                 # any of proxy::Settings; also buffer, buffers, linger, drain, idle_per_server, start, request_head, response_head
//!                                    # most, queue_length, eject_after; sticky NAME, client_rate per minute, trusted NETWORK, backups (the last ones)
//! skip client-bytes, short-sends: why
//! repeat 1..3                        # textual: $i is the count
//! end
//! server 0 accepts                   # dials succeed by themselves; `asks` (default): the script says `dial 0 ok`; `refuses` and
//!                                    # `no-socket` fail within the call; `no-socket-once` unless an idle connection can be given up
//! server * answers TEXT              # ... and each request head is answered; {path} and {length} of the path are filled in
//! server 0 window 100                # send space of its future connections
//!
//! client> TEXT                       # bytes; `client 1> TEXT` is a second connection
//! client ends|closes|resets          # half-close; close (what is sent there meets a reset); reset
//! client window 100|open             # how many more bytes its socket takes
//! client connects                    # otherwise done by its first line
//! client< PATTERN                    # all that has come since the last look
//! client has|lacks TEXT              # of what the last look took
//! dial 0 ok|refused|hangs            # there is one under way to server 0, and this becomes of it
//! upstream 0> TEXT                   # server 0's latest connection; `upstream 0.1` is the second one ever made to it
//! upstream 0 ends|closes|resets|window N
//! upstream 0 closes unseen           # the loop has not heard of it yet (also `ends`, `resets`)
//! upstream 0< PATTERN
//! upstream 0 has|lacks TEXT
//! after 5s                           # 100ms, 1.5s; stops at each deadline on the way
//! drain                              # Command::Drain; after the drain time everything is cut
//! stop                               # Command::Stop
//! + LINE                             # happens in one batch with the next line
//! expect log 200 done attempts=1 server=0 detail=bare-lf up=30 down=100 reused=yes client-reused=no line="GET / HTTP/1.1" host=h
//!        (also head=, wait=, connect=, first=, total= as times)
//! expect no log | no dial
//! expect open|waiting|close|linger|reset|gone    # the client's connection: open; open with nothing held; ended; ended but still
//!                                                # read; broken; no session left. `expect client 1 open`
//! expect idle 2                      # connections in the pool
//! expect upstream 0 open|idle|ended|closed
//! expect unread client = 10 | unread upstream 0 >= 100   # bytes that the proxy has left in the socket
//! ```
//!
//! Lines that begin with `|` continue the text of the line before. TEXT knows `\r \n \t \\ \xHH`, `{x*100}` (repeated),
//! `{5000 bytes}` and `{100..200 bytes}` (of an endless noise), `{each 1..9|GET /$i ...}`. A PATTERN is a TEXT in which `...` stands for
//! anything without an empty line (so it cannot swallow the end of a head) and `....` for anything at all.
//!
//! Every record, every byte for a client or server, and every dial must be expected before a script ends.

pub mod play;
pub mod script;
pub mod text;
pub mod wire;
pub mod world;
