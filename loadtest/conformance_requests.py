"""What clients send: the request side of the conformance recorder, and the words that both tables use.

A case is a client's script, optionally an origin's script, and the outcomes that are right. `house` outcomes are what this
project's own proxy must do, `peers` what the RFCs allow any other proxy in addition. Expectations come from RFC 9110 and 9112
(and the house's rules where those leave a choice), never from what an implementation does.

`CASE00000000`, `NEXT00000000` and `EVIL00000000` in any bytes are replaced by unique marks of the same length for each run:
the case's own request, an honest second one, and one that must never be taken for a request.
"""
from dataclasses import dataclass, field
from enum import Enum

T, T2, S = b"/CASE00000000", b"/NEXT00000000", b"/EVIL00000000"
HOST = b"a.example"
H = b"Host: a.example\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ANY = None


class Do(Enum):
    """Steps of a script that are neither bytes to send nor seconds to pause."""
    SHUT = "shut"      # client, origin: send FIN, go on reading
    CLOSE = "close"    # client: close; origin: FIN, read for a moment, close
    RESET = "reset"    # client, origin: RST
    INTERIM = "100"    # client: wait for a 1xx (or a final answer)
    ANSWER = "answer"  # client: wait for one more final answer (or the end)
    HEAD = "head"      # origin, first: begin when the head is there; without it the whole request is awaited
    BODY = "body"      # origin: wait for the rest of the request
    TUNNEL = "tunnel"  # origin: from here on opaque bytes, each piece is sent back with "pong:" before it


SHUT, CLOSE, RESET, INTERIM, ANSWER, HEAD, BODY, TUNNEL = Do


@dataclass(frozen=True)
class Answer:
    """One final answer as the client must read it."""
    status: tuple                 # allowed codes
    target: bytes = ANY           # the origin's echo must name this target
    body: bytes = ANY
    has: dict = field(default_factory=dict)     # field -> value, or ANY for "is there", or a function of the value
    lacks: tuple = ()
    house_has: dict = field(default_factory=dict)   # the same, asked of the house's proxy only
    trailers_lack: tuple = ()
    house_trailers: dict = field(default_factory=dict)
    interim: tuple = ANY          # the 1xx codes before it, or a function of them
    cut: bool = False             # must be visibly incomplete
    tunnel: bytes = ANY           # what comes after a 101


@dataclass(frozen=True)
class Seen:
    """One request as the origin must have read it."""
    target: bytes = T
    method: bytes = b"GET"
    host: bytes = HOST
    body: bytes = b""
    has: dict = field(default_factory=dict)
    lacks: tuple = ()
    house_has: dict = field(default_factory=dict)
    house_lacks: tuple = ()
    trailers_lack: tuple = ()
    house_trailers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """One right way for a case to end. `answers` or `origin` ANY: not looked at."""
    words: str
    answers: tuple = ()
    origin: tuple = ()
    closed: bool = ANY            # True: the proxy must close; False: it must not
    reset: bool = False           # the close must be a reset
    silent: bool = False          # the last answer may be missing, if the connection closes
    partial: bool = False         # an unfinished request may have reached the origin, on a connection then closed


@dataclass(frozen=True)
class Case:
    side: str
    name: str
    row: int                      # of PROTOCOL.md
    send: tuple                   # the client's script
    house: tuple
    peers: tuple = ()
    script: tuple = ANY           # the origin's script for the request with CASE in its target; ANY: echo
    script2: tuple = ANY          # the same for NEXT
    methods: tuple = ANY          # of the requests sent, if not plain to see
    once: bool = False            # the script is played once, then the origin echoes
    warm: bool = False            # let an innocent request leave an idle upstream connection first
    discard: bool = False         # house: the upstream connection of `script` must be closed and carry nothing more
    logged: int = 0               # house: the access log must have a line with this status


def refuse(*status, closed=True, silent=False, before=(), origin=(), words=""):
    """The message is answered by one of these codes and nothing of it reaches the origin as a whole request."""
    return Outcome(words or "refuse " + "/".join(map(str, status)), tuple(before) + (Answer(status),), tuple(origin), closed,
                   silent=silent, partial=True)


def forward(*seen, closed=ANY, answers=ANY, words=""):
    """These requests reach the origin, in this order, and each gets its echo."""
    if answers is ANY:
        answers = tuple(Answer((200,), target=s.target) for s in seen)
    return Outcome(words or "forward", tuple(answers), seen, closed)


def dropped(words="close without an answer"):
    return Outcome(words, (), (), True, partial=True)


def req(fields=b"", body=b"", method=b"GET", target=T, version=b"HTTP/1.1", host=H):
    """A request; `fields` are whole lines with their line ends."""
    return method + b" " + target + b" " + version + b"\r\n" + host + fields + b"\r\n" + body


def post(fields, body, **more):
    return req(fields, body, method=b"POST", **more)


def length(body):
    return b"Content-Length: %d\r\n" % len(body)


EVIL = req(target=S)
NEXT = req(target=T2)
CASES = []


def case(name, row, send, *house, peers=(), **more):
    send = send if isinstance(send, tuple) else (send,)
    if "logged" not in more and all(o.answers and not o.silent and o.words.startswith("refuse") for o in house):
        more["logged"] = house[0].answers[-1].status[0]
    CASES.append(Case("request", name, row, send, house, tuple(peers), **more))


# Row 1: Transfer-Encoding and Content-Length together.
_te_wins = [forward(Seen(method=b"POST", lacks=("content-length",)), closed=True, words="forward by TE, then close")]
_body = b"0\r\n\r\n" + EVIL
case("te-cl-hides-request", 1, post(length(_body) + CHUNKED, _body), refuse(400), peers=_te_wins)
case("cl-te-order", 1, post(CHUNKED + length(_body), _body), refuse(400), peers=_te_wins)
# Row 2
case("te-xchunked", 2, post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), refuse(501, 400))
case("te-upper-case", 2, post(b"Transfer-Encoding: CHUNKED\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
     forward(Seen(method=b"POST", body=b"hello")))
# Row 4
case("cl-plus", 4, post(b"Content-Length: +5\r\n", b"hello"), refuse(400))
case("cl-plain", 4, post(length(b"hello"), b"hello"), forward(Seen(method=b"POST", body=b"hello")))
# Row 6
case("chunk-size-bare-lf", 6, post(CHUNKED, b"5\nhello\r\n0\r\n\r\n"), refuse(400))
# Row 10
case("body-short-shut", 10, (post(b"Content-Length: 10\r\n", b"hello"), SHUT), refuse(400, 408, silent=True))
# Row 15
case("no-host", 15, req(host=b""), refuse(400), peers=[refuse(400, closed=ANY)])
# Row 17
case("pipelined-three", 17, req() + NEXT + req(target=T + b"?3"),
     forward(Seen(), Seen(target=T2), Seen(target=T + b"?3")))
