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
    TUNNEL = "tunnel"  # origin: from here on opaque bytes, which are sent back, "pong:" before the first


SHUT, CLOSE, RESET, INTERIM, ANSWER, HEAD, BODY, TUNNEL = Do


@dataclass(frozen=True)
class Slow:
    """Step of a client's script: these bytes one by one."""
    data: bytes
    pause: float = 0.001


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
    script_if: str = ""           # the scripts are played only if the request has this field
    owes: bool = False            # the client leaves its request unfinished: nothing else can be sent on that connection
    once: bool = False            # the script is played once, then the origin echoes
    hurry: bool = False           # innocent requests are sent while the origin's script is still played, and again after it
    warm: bool = False            # let an innocent request leave an idle upstream connection first
    discard: bool = False         # house: the upstream connection of `script` must be closed and carry nothing more


def refuse(*status, closed=True, silent=False, before=(), origin=(), words=""):
    """The message is answered by one of these codes and nothing of it reaches the origin as a whole request."""
    return Outcome(words or "refuse " + "/".join(map(str, status)), tuple(before) + (Answer(status),), tuple(origin), closed,
                   silent=silent, partial=True)


def forward(*seen, closed=ANY, answers=ANY, words=""):
    """These requests reach the origin, in this order, and each gets its echo."""
    if answers is ANY:
        answers = tuple(Answer((200,), target=s.target) for s in seen)
    return Outcome(words or "forward", tuple(answers), seen, closed)


def unfinished(words="nothing whole at the origin"):
    """Whatever the client got: no whole request reached the origin."""
    return Outcome(words, ANY, (), partial=True)


def answered(*answers, closed=ANY, words="", origin=ANY):
    """These final answers; at the origin honest requests only, one of them perhaps unfinished on a connection then closed."""
    return Outcome(words or "answers " + ", ".join("/".join(map(str, a.status)) for a in answers), answers, origin, closed,
                   partial=True)


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
    CASES.append(Case("request", name, row, send, house, tuple(peers), **more))


def ok(target=T, **more):
    return Answer((200,), target=target, **more)


def status(*codes, **more):
    return Answer(codes, **more)


# --- What both sides can send -------------------------------------------------------------------------------------------------

def _chunk(size_line, data=b"hello", end=b"\r\n", rest=b"0\r\n\r\n"):
    return size_line + data + end + rest


# name, row, chunked body, what it decodes to
GOOD_CHUNKS = [
    ("plain", 5, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    ("nothing", 8, b"0\r\n\r\n", b""),
    ("hex-upper", 5, b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("hex-lower", 5, b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("size-zeros", 5, _chunk(b"0000005\r\n"), b"hello"),
    ("last-zeros", 5, b"5\r\nhello\r\n000\r\n\r\n", b"hello"),
    ("data-like-framing", 8, b"1e\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n\r\n\r\n"),
    ("ext", 7, _chunk(b"5;a=b\r\n"), b"hello"),
    ("ext-name", 7, _chunk(b"5;a\r\n"), b"hello"),
    ("ext-quoted", 7, _chunk(b'5;a="b c"\r\n'), b"hello"),
    ("ext-quoted-escape", 7, _chunk(b'5;a="b\\";c=\\\\";d\r\n'), b"hello"),
    ("ext-many", 7, _chunk(b'5;a;b=c;d="e"\r\n', rest=b"0;f=g;h\r\n\r\n"), b"hello"),
]
# Both refusing and reading on are right.
EITHER_CHUNKS = [
    ("ext-bws", 7, _chunk(b"5 ; a = b\r\n"), b"hello"),
    ("size-many-zeros", 5, _chunk(b"0" * 40 + b"5\r\n"), b"hello"),
    ("ext-on-each", 7, b"".join(b"1;x=%030d\r\n.\r\n" % n for n in range(600)) + b"0\r\n\r\n", b"." * 600),
]
# name, row, chunked body, what others may read (they ignore what they need not validate), or None
BAD_CHUNKS = [
    ("size-junk", 5, _chunk(b"5x\r\n"), None),
    ("size-0x", 5, _chunk(b"0x5\r\n"), None),
    ("size-plus", 5, _chunk(b"+5\r\n"), None),
    ("size-minus", 5, _chunk(b"-5\r\n"), None),
    ("size-minus-zero", 5, b"5\r\nhello\r\n-0\r\n\r\n", None),
    ("size-space-before", 5, _chunk(b" 5\r\n"), None),
    ("size-space-after", 5, _chunk(b"5 \r\n"), b"hello"),
    ("size-tab-after", 5, _chunk(b"5\t\r\n"), b"hello"),
    ("size-space-inside", 5, _chunk(b"0 5\r\n"), None),
    ("size-empty", 5, _chunk(b"\r\n"), None),
    ("size-g", 5, _chunk(b"g\r\n"), None),
    ("size-underscore", 5, b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", None),
    ("size-nul", 5, _chunk(b"5\x00\r\n"), None),
    ("size-vt", 5, _chunk(b"5\x0b\r\n"), None),
    ("size-comma", 5, _chunk(b"5,5\r\n"), None),
    ("size-high-bit", 5, _chunk(b"\xb5\r\n"), None),
    ("size-wraps-64", 5, _chunk(b"10000000000000005\r\n"), None),
    ("size-wraps-128", 5, _chunk(b"1" + b"0" * 31 + b"5\r\n"), None),
    ("size-ext-without-size", 5, _chunk(b";a=b\r\n"), None),
    ("lf-size", 6, _chunk(b"5\n"), None),
    ("lf-data", 6, _chunk(b"5\r\n", end=b"\n"), None),
    ("lf-last", 6, _chunk(b"5\r\n", rest=b"0\n\r\n"), None),
    ("lf-final", 6, _chunk(b"5\r\n", rest=b"0\r\n\n"), None),
    ("lf-everywhere", 6, b"5\nhello\n0\n\n", None),
    ("cr-size", 6, _chunk(b"5\r"), None),
    ("crcrlf-size", 6, _chunk(b"5\r\r\n"), None),
    ("cr-data", 6, _chunk(b"5\r\n", end=b"\r"), None),
    ("cr-final", 6, _chunk(b"5\r\n", rest=b"0\r\n\rX\r\n\r\n"), None),
    ("lfcr-size", 6, _chunk(b"5\n\r"), None),
    ("ext-lf", 7, _chunk(b"5;a\nb\r\n"), None),
    ("ext-lf-end", 7, _chunk(b"5;a=b\n"), None),
    ("ext-cr", 7, _chunk(b"5;a\rb\r\n"), None),
    ("ext-quoted-lf", 7, _chunk(b'5;a="b\nc"\r\n'), None),
    ("ext-quoted-crlf", 7, _chunk(b'5;a="\r\n"\r\n'), None),
    ("ext-quote-open", 7, _chunk(b'5;a="b\r\n'), b"hello"),
    ("ext-quote-escaped-crlf", 7, _chunk(b'5;a="b\\\r\n'), b"hello"),
    ("ext-quote-then-junk", 7, _chunk(b'5;a="b"c\r\n'), b"hello"),
    ("ext-nul", 7, _chunk(b"5;a=b\x00c\r\n"), b"hello"),
    ("ext-ctl", 7, _chunk(b"5;a=b\x01c\r\n"), b"hello"),
    ("ext-empty", 7, _chunk(b"5;\r\n"), b"hello"),
    ("ext-no-name", 7, _chunk(b"5;=b\r\n"), b"hello"),
    ("ext-no-value", 7, _chunk(b"5;a=\r\n"), b"hello"),
    ("ext-space-inside", 7, _chunk(b"5;a b\r\n"), b"hello"),
    ("ext-huge", 7, _chunk(b"5;a=" + b"b" * 40000 + b"\r\n"), b"hello"),
    ("data-junk", 8, _chunk(b"5\r\n", data=b"helloX"), None),
    ("data-space", 8, _chunk(b"5\r\n", data=b"hello "), None),
    ("data-too-long", 8, _chunk(b"4\r\n"), None),
    ("data-too-short", 8, _chunk(b"6\r\n"), None),
    ("data-no-crlf", 8, _chunk(b"5\r\n", end=b""), None),
    ("data-crcrlf", 8, _chunk(b"5\r\n", end=b"\r\r\n"), None),
    ("data-two-crlf", 8, _chunk(b"5\r\n", end=b"\r\n\r\n"), None),
    ("trailer-no-colon", 9, _chunk(b"5\r\n", rest=b"0\r\ngarbage\r\n\r\n"), b"hello"),
    ("trailer-space-colon", 9, _chunk(b"5\r\n", rest=b"0\r\nX-A : b\r\n\r\n"), b"hello"),
    ("trailer-empty-name", 9, _chunk(b"5\r\n", rest=b"0\r\n: b\r\n\r\n"), b"hello"),
    ("trailer-fold", 9, _chunk(b"5\r\n", rest=b"0\r\nX-A: b\r\n c\r\n\r\n"), b"hello"),
    ("trailer-nul", 9, _chunk(b"5\r\n", rest=b"0\r\nX-A: b\x00c\r\n\r\n"), b"hello"),
    ("trailer-cr", 9, _chunk(b"5\r\n", rest=b"0\r\nX-A: b\rc\r\n\r\n"), b"hello"),
    ("trailer-lf", 9, _chunk(b"5\r\n", rest=b"0\r\nX-A: b\nX-B: c\r\n\r\n"), b"hello"),
    ("trailer-lf-lf", 9, _chunk(b"5\r\n", rest=b"0\r\nX-A: b\n\n"), None),
]
# name, row, fields of the trailer section, of which these must not be forwarded
TRAILERS = [
    ("trailer", 9, b"X-Sum: 42\r\n", ()),
    ("trailer-length", 9, b"Content-Length: 99\r\nX-Sum: 42\r\n", ("content-length",)),
    ("trailer-te", 9, b"Transfer-Encoding: chunked\r\nX-Sum: 42\r\n", ("transfer-encoding",)),
    ("trailer-host", 9, b"Host: evil.example\r\nX-Sum: 42\r\n", ("host",)),
    ("trailer-connection", 9, b"Connection: close\r\nKeep-Alive: timeout=5\r\nX-Sum: 42\r\n", ("connection", "keep-alive")),
    ("trailer-auth", 9, b"Authorization: Basic eDp4\r\nSet-Cookie: a=b\r\nX-Sum: 42\r\n", ("authorization", "set-cookie")),
]
# name, row, field line(s), what others may make of it: REFUSE only, DROP the line, or keep a field with such a value
REFUSE, DROP = "refuse", "drop"


def _spaced(value):
    import re
    return re.fullmatch(rb"b[ \t]+c", value) is not None


def _anything(value):
    return True


BAD_FIELDS = [
    ("space-before-colon", 11, b"X-A : b\r\n", REFUSE),
    ("tab-before-colon", 11, b"X-A\t: b\r\n", REFUSE),
    ("space-before-colon-te", 11, b"Transfer-Encoding : chunked\r\n", REFUSE),
    ("fold", 12, b"X-A: b\r\n c\r\n", _spaced),
    ("fold-tab", 12, b"X-A: b\r\n\tc\r\n", _spaced),
    ("fold-blank", 12, b"X-A: b\r\n \r\n", lambda value: value.strip() == b"b"),
    ("fold-hides-te", 12, b"X-A: b\r\n Transfer-Encoding: chunked\r\n", lambda value: value.endswith(b"chunked")),
    ("nul", 13, b"X-A: b\x00c\r\n", _spaced),
    ("bare-cr", 13, b"X-A: b\rc\r\n", _spaced),
    ("bare-cr-end", 13, b"X-A: b\r\r\n", lambda value: value.strip() == b"b"),
    ("bare-cr-hides-te", 13, b"X-A: b\rTransfer-Encoding: chunked\r\n", lambda value: value.startswith(b"b ")),
    ("bare-lf", 13, b"X-A: b\nX-B: c\r\n", lambda value: value == b"b"),
    ("ctl-1", 13, b"X-A: b\x01c\r\n", _anything),
    ("ctl-esc", 13, b"X-A: b\x1bc\r\n", _anything),
    ("ctl-del", 13, b"X-A: b\x7fc\r\n", _anything),
    ("ctl-vt-before-value", 13, b"X-A:\x0bb\r\n", _anything),
    ("name-empty", 14, b": b\r\n", DROP),
    ("name-space-inside", 14, b"X A: b\r\n", DROP),
    ("name-paren", 14, b"X(A): b\r\n", DROP),
    ("name-slash", 14, b"X/A: b\r\n", DROP),
    ("name-quote", 14, b'"X-A": b\r\n', DROP),
    ("name-high-bit", 14, b"X-\xe9: b\r\n", DROP),
    ("name-nul", 14, b"X\x00A: b\r\n", DROP),
    ("name-cr", 14, b"X\rA: b\r\n", DROP),
    ("no-colon", 14, b"garbage\r\n", DROP),
    ("no-colon-te", 14, b"Transfer-Encoding chunked\r\n", DROP),
]
# name, row, field line(s), field, value
GOOD_FIELDS = [
    ("obs-text", 13, b"X-A: caf\xe9 \xff\r\n", "x-a", b"caf\xe9 \xff"),
    ("value-empty", 14, b"X-A:\r\n", "x-a", b""),
    ("value-spaces-around", 14, b"X-A: \t b \t\r\n", "x-a", b"b"),
    ("value-tab-inside", 14, b"X-A: b\tc\r\n", "x-a", b"b\tc"),
    ("value-colons", 14, b"X-A: a:b::c\r\n", "x-a", b"a:b::c"),
    ("value-no-space", 14, b"X-A:b\r\n", "x-a", b"b"),
    ("value-quotes", 14, b'X-A: "b\r\n', "x-a", b'"b'),
    ("name-all-token-chars", 14, b"x!#$%&'*+-.^_`|~9: b\r\n", "x!#$%&'*+-.^_`|~9", b"b"),
    ("name-300-bytes", 14, b"X-" + b"a" * 298 + b": b\r\n", "x-" + "a" * 298, b"b"),
    ("name-wraps-length", 14, b"Content-Length0" + b"a" * 256 + b": 1\r\n", "content-length0" + "a" * 256, b"1"),
    ("two-lines-in-order", 14, b"X-A: 1\r\nX-B: x\r\nX-A: 2\r\n", "x-a", b"1, 2"),
]

# --- Row 1: Transfer-Encoding and Content-Length together ----------------------------------------------------------------------

POST = b"POST"


def posted(body=b"hello", **more):
    return Seen(method=POST, body=body, **more)


def _te_wins(body):
    return [forward(posted(body, lacks=("content-length",)), closed=True, words="forward by TE, then close")]


_hidden = b"0\r\n\r\n" + EVIL
case("te-cl-hides-request", 1, post(length(_hidden) + CHUNKED, _hidden), refuse(400), peers=_te_wins(b""))
case("cl-after-te", 1, post(CHUNKED + length(_hidden), _hidden), refuse(400), peers=_te_wins(b""))
case("te-cl-short-length", 1, post(b"Content-Length: 4\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), refuse(400), peers=_te_wins(b"hello"))
case("te-cl-zero", 1, post(b"Content-Length: 0\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), refuse(400), peers=_te_wins(b"hello"))
case("te-cl-get", 1, req(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"), refuse(400),
     peers=[forward(Seen(lacks=("content-length",)), closed=True)])
case("te-cl-chunked-upper", 1, post(length(_hidden) + b"transfer-ENCODING: ChUnKeD\r\n", _hidden), refuse(400), peers=_te_wins(b""))
case("te-unknown-cl", 1, post(b"Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n", b"hello"), refuse(400, 501))
case("te-identity-cl", 1, post(b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n", b"hello"), refuse(400, 501))
case("te-empty-cl", 1, post(b"Content-Length: 5\r\nTransfer-Encoding:\r\n", b"hello"), refuse(400, 501))
case("te-cl-bad-length", 1, post(b"Content-Length: x\r\n" + CHUNKED, b"0\r\n\r\n"), refuse(400), peers=_te_wins(b""))
case("te-cl-in-pieces", 1, (b"POST " + T + b" HTTP/1.1\r\nHost: a.example\r\nContent-Le", 0.02, b"ngth: 5\r\nTransfer-Enc", 0.02,
                            b"oding: chunked\r\n\r", 0.02, b"\n0\r\n\r\n"), refuse(400), peers=_te_wins(b""))
case("te-underscore-is-no-te", 1, post(b"Content-Length: 5\r\nTransfer_Encoding: chunked\r\n", b"hello"), forward(posted()))
case("te-longer-name-is-no-te", 1, post(b"Content-Length: 5\r\nTransfer-Encodings: chunked\r\n", b"hello"), forward(posted()))

# --- Row 2: transfer codings ---------------------------------------------------------------------------------------------------

_five = b"5\r\nhello\r\n0\r\n\r\n"
_coding_refused = [refuse(400, 422, 501)]


def _te(name, value, *house, row=2, body=_five, peers=(), line=b"Transfer-Encoding: %s\r\n"):
    case("te-" + name, row, post(line % value, body), *(house or (refuse(400, 501),)), peers=[*peers, *(() if len(house) == 1 else _coding_refused)])


_coded = [forward(posted(has={"transfer-encoding": lambda v: v.replace(b" ", b"").lower() == b"gzip,chunked"}),
                  words="forward with its codings")]
_te("gzip-only", b"gzip")
_te("gzip-chunked", b"gzip, chunked", peers=_coded)
_te("chunked-gzip", b"chunked, gzip")
_te("chunked-twice", b"chunked, chunked")
_te("identity", b"identity")
_te("xchunked", b"xchunked")
_te("chunkedx", b"chunkedx")
_te("quoted", b'"chunked"')
_te("single-quoted", b"'chunked'")
_te("parameter", b"chunked;q=1")
_te("semicolon", b"chunked;")
_te("two-words", b"chun ked")
_te("empty", b"", refuse(400, 501))
_te("nul", b"chunked\x00")
_te("vt-before", b"\x0bchunked")
_te("ff-before", b"\x0cchunked")
_te("nbsp-before", b"\xa0chunked")
_te("bom-before", b"\xef\xbb\xbfchunked")
_te("trailers-chunked", b"trailers, chunked")
_te("identity-chunked", b"identity, chunked")
case("te-lines-chunked-chunked", 2, post(CHUNKED + CHUNKED, _five), refuse(400, 501))
case("te-lines-chunked-identity", 2, post(CHUNKED + b"Transfer-Encoding: identity\r\n", _five), refuse(400, 501))
case("te-lines-gzip-chunked", 2, post(b"Transfer-Encoding: gzip\r\n" + CHUNKED, _five), refuse(400, 501), peers=_coded + _coding_refused)
case("te-lines-empty-chunked", 2, post(b"Transfer-Encoding:\r\n" + CHUNKED, _five), refuse(400, 501), forward(posted()))
_te("comma-before", b",chunked", refuse(400, 501), forward(posted()))
_te("comma-after", b"chunked,", refuse(400, 501), forward(posted()))
_te("upper-case", b"CHUNKED", forward(posted()))
_te("tabs-around", b"\tchunked \t", forward(posted()), line=b"Transfer-Encoding:%s\r\n")
_te("name-lower-case", b"chunked", forward(posted()), line=b"transfer-encoding: %s\r\n")
case("te-get-with-body", 2, req(CHUNKED, _five), forward(Seen(body=b"hello")))

# --- Row 3: Transfer-Encoding in HTTP/1.0 ---------------------------------------------------------------------------------------

_old = {"version": b"HTTP/1.0"}
_faulty = [forward(posted((b"hello", b"")), closed=True, words="forward, then close")]
case("te-http10", 3, post(CHUNKED, _five, **_old), refuse(400), peers=_faulty)
case("te-http10-cl", 3, post(b"Content-Length: 5\r\n" + CHUNKED, _five, **_old), refuse(400), peers=_faulty)
case("te-http10-keep-alive", 3, post(b"Connection: keep-alive\r\n" + CHUNKED, _five + EVIL, **_old), refuse(400), peers=_faulty)
case("te-http10-get", 3, req(CHUNKED, b"0\r\n\r\n", **_old), refuse(400), peers=[forward(Seen(), closed=True), refuse(400, 411, 413, 501)])
case("te-http10-identity", 3, post(b"Transfer-Encoding: identity\r\n", b"", **_old), refuse(400, 501), peers=_faulty)

# --- Row 4: Content-Length --------------------------------------------------------------------------------------------------------


def _cl(name, value, *house, body=b"hello", peers=()):
    case("cl-" + name, 4, post(b"Content-Length:%s\r\n" % value, body), *(house or (refuse(400),)), peers=peers)


_same = [forward(posted(), words="forward with one length")]
_cl("plain", b" 5", forward(posted()))
_cl("zero", b" 0", forward(posted(b"")), body=b"")
_cl("no-space", b"5", forward(posted()))
_cl("spaces-around", b" \t5\t ", forward(posted()))
_cl("zeros-before", b" 005", forward(posted()))
_cl("zeros-many", b" " + b"0" * 40 + b"5", refuse(400), forward(posted()))
_cl("plus", b" +5")
_cl("minus", b" -5")
_cl("minus-zero", b" -0", body=b"")
_cl("hex", b" 0x5")
_cl("hex-digits", b" a", body=b"0123456789")
_cl("empty", b"")
_cl("blank", b"   ")
_cl("two-words", b" 5 5")
_cl("junk-after", b" 5x")
_cl("semicolon", b" 5;")
_cl("point", b" 5.0")
_cl("exponent", b" 5e0")
_cl("underscore", b" 1_0", body=b"0123456789")
_cl("quoted", b' "5"')
_cl("nul", b" 5\x00")
_cl("vt", b"\x0b5")
_cl("unicode-digit", b" \xd9\xa5")
_cl("list-same", b" 5, 5", peers=_same)
_cl("list-different", b" 5, 6")
_cl("list-empty", b" 5,")
_cl("list-empty-first", b" ,5")
_cl("2-to-64", b" 18446744073709551616", refuse(400, 413), body=b"")
_cl("wraps-64", b" 18446744073709551621", refuse(400, 413))
_cl("many-digits", b" " + b"9" * 60, refuse(400, 413))
case("cl-lines-same", 4, post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"), refuse(400), peers=_same)
case("cl-lines-different", 4, post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"), refuse(400))
case("cl-lines-different-zeros", 4, post(b"Content-Length: 5\r\nContent-Length: 05\r\n", b"hello"), refuse(400), peers=_same)
case("cl-lines-apart", 4, post(b"Content-Length: 5\r\nX-A: b\r\ncontent-length: %d\r\n" % (5 + len(EVIL)), b"hello" + EVIL), refuse(400))
case("cl-lines-empty-second", 4, post(b"Content-Length: 5\r\nContent-Length:\r\n", b"hello"), refuse(400))
case("cl-none-on-post", 4, post(b"", b""), forward(posted(b"")), peers=[refuse(411, closed=ANY)])
case("cl-body-hides-request", 4, post(length(EVIL), EVIL), forward(posted(EVIL)))
case("cl-then-garbage", 4, post(length(b"hello"), b"hello" + b"\x16\x03\x01\r\n\r\n"), refuse(400, before=[ok()], origin=[posted()]),
     peers=[answered(ok(), closed=True, origin=(posted(),))])
case("cl-large", 4, post(length(b"0123456789" * 30000), b"0123456789" * 30000), forward(posted(b"0123456789" * 30000)))

# --- Rows 5 to 9: chunks and trailers ---------------------------------------------------------------------------------------------

for _name, _row, _bytes, _decoded in GOOD_CHUNKS:
    case("chunk-" + _name, _row, post(CHUNKED, _bytes + NEXT), forward(posted(_decoded), Seen(target=T2)))
for _name, _row, _bytes, _decoded in EITHER_CHUNKS:
    case("chunk-" + _name, _row, post(CHUNKED, _bytes), forward(posted(_decoded)), refuse(400, 413, 431))
for _name, _row, _bytes, _decoded in BAD_CHUNKS:
    case("chunk-" + _name, _row, post(CHUNKED, _bytes), refuse(400, 413, 431) if "huge" in _name else refuse(400),
         peers=[refuse(400, 413, 431, silent=True)] + ([forward(posted(_decoded))] if _decoded is not None else []))
for _name, _row, _bytes, _never in TRAILERS:
    case("chunk-" + _name, _row, post(CHUNKED + b"Trailer: X-Sum\r\n", b"5\r\nhello\r\n0\r\n" + _bytes + b"\r\n" + NEXT),
         forward(posted(trailers_lack=_never, lacks=("x-sum", "authorization", "set-cookie", "keep-alive"),
                        house_trailers={"x-sum": b"42"}), Seen(target=T2)))
case("chunk-byte-by-byte", 8, (Slow(post(CHUNKED, b'5;a="b"\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n')),), forward(posted()))
case("chunk-large", 5, post(CHUNKED, b"4000\r\n" + b"x" * 0x4000 + b"\r\n" + b"186a0\r\n" + b"y" * 100000 + b"\r\n0\r\n\r\n"),
     forward(posted(b"x" * 0x4000 + b"y" * 100000)))
case("chunk-many-small", 5, post(CHUNKED, b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n"), forward(posted(b"x" * 3000)))
case("chunk-no-blank-line-then-request", 8, post(CHUNKED, b"0\r\n" + EVIL), refuse(400), peers=[refuse(400, silent=True)])
case("chunk-size-bad-later", 5, (post(CHUNKED, b"5\r\nhello\r\n"), 0.05, b"5x\r\nworld\r\n0\r\n\r\n"), refuse(400),
     peers=[refuse(400, silent=True)])
case("chunk-lf-later", 6, (post(CHUNKED, b"5\r\nhello\r\n"), 0.05, b"0\n\n"), refuse(400), peers=[refuse(400, silent=True)])
case("chunk-cr-split-from-junk", 6, (post(CHUNKED, b"5\r"), 0.03, b"Xhello\r\n0\r\n\r\n"), refuse(400), peers=[refuse(400, silent=True)])
case("chunk-data-end-split", 8, (post(CHUNKED, b"5\r\nhello"), 0.03, b"\r", 0.03, b"X0\r\n\r\n"), refuse(400),
     peers=[refuse(400, silent=True)])
case("chunk-size-all-ones", 5, (post(CHUNKED, b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), 0.03, SHUT), refuse(400, 413, 408, silent=True))
case("chunk-size-wraps-32", 5, (post(CHUNKED, b"100000005\r\nhello\r\n0\r\n\r\n"), 0.03, SHUT), refuse(400, 413, 408, silent=True))
case("trailer-huge", 9, post(CHUNKED, b"0\r\n" + b"X-A: " + b"b" * 40000 + b"\r\n\r\n"), refuse(400, 413, 431),
     peers=[forward(posted(b""))])
case("trailer-many", 9, post(CHUNKED, b"0\r\n" + b"X-A: b\r\n" * 3000 + b"\r\n"), refuse(400, 413, 431), peers=[forward(posted(b""))])
case("trailer-hides-te-cl", 9, post(CHUNKED, b"5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\nContent-Length: 9\r\n\r\n" + NEXT),
     forward(posted(trailers_lack=("transfer-encoding", "content-length")), Seen(target=T2)), refuse(400))

# --- Row 10: bodies that end too early --------------------------------------------------------------------------------------------

for _name, _bytes in [("cl", post(b"Content-Length: 10\r\n", b"hello")), ("cl-nothing", post(b"Content-Length: 10\r\n", b"")),
                      ("chunk-data", post(CHUNKED, b"a\r\nhello")), ("chunk-end", post(CHUNKED, b"5\r\nhello\r\n")),
                      ("chunk-size", post(CHUNKED, b"5\r\nhello\r\n5")), ("last-chunk", post(CHUNKED, b"5\r\nhello\r\n0\r\n")),
                      ("trailer", post(CHUNKED, b"5\r\nhello\r\n0\r\nX-A: b\r\n"))]:
    case(f"short-{_name}-fin", 10, (_bytes, 0.03, SHUT), refuse(400, 408, silent=True))
    case(f"short-{_name}-close", 10, (_bytes, 0.03, CLOSE), unfinished())
case("short-cl-reset", 10, (post(b"Content-Length: 10\r\n", b"hello"), 0.03, RESET), unfinished())
case("short-chunk-reset", 10, (post(CHUNKED, b"5\r\nhello\r\n"), 0.03, RESET), unfinished())
case("short-head-fin", 10, (b"GET " + T + b" HTTP/1.1\r\nHost: a.exa", 0.03, SHUT), refuse(400, 408, silent=True))
case("short-head-no-blank-line-fin", 10, (b"GET " + T + b" HTTP/1.1\r\nHost: a.example\r\n", 0.03, SHUT), refuse(400, 408, silent=True))

# --- Rows 11 to 14: field lines ---------------------------------------------------------------------------------------------------

_last = {"x-last": b"v"}
for _name, _row, _line, _others in BAD_FIELDS:
    _peers = [refuse(400, closed=ANY)]
    if _others is DROP:
        _peers.append(forward(Seen(has=_last, lacks=("x-a",)), words="forward without the line"))
    elif _others is not REFUSE:
        _peers.append(forward(Seen(has={**_last, "x-a": _others}, lacks=("transfer-encoding",)), words="forward, repaired"))
    case("field-" + _name, _row, req(_line + b"X-Last: v\r\n"), refuse(400), peers=_peers)
for _name, _row, _line, _field, _value in GOOD_FIELDS:
    case("field-" + _name, _row, req(_line + b"X-Last: v\r\n"), forward(Seen(has={_field: _value, **_last})),
         peers=[refuse(400, 431, closed=ANY)] if len(_field) > 200 else [])

case("space-before-colon-cl", 11, post(b"Content-Length : 5\r\n", b"hello"), refuse(400))
case("space-before-colon-host", 11, req(host=b"Host : a.example\r\n"), refuse(400))
case("space-before-colon-te-and-cl", 11, post(length(_hidden) + b"Transfer-Encoding : chunked\r\n", _hidden), refuse(400))
case("fold-host", 12, req(host=b"Host: a.example\r\n b\r\n"), refuse(400))
case("fold-cl", 12, post(b"Content-Length:\r\n 5\r\n", b"hello"), refuse(400), peers=[forward(posted())])
case("fold-cl-digits", 12, post(b"Content-Length: 1\r\n 0\r\n", b"0123456789"), refuse(400))
case("fold-te", 12, post(b"Transfer-Encoding:\r\n chunked\r\n", _five), refuse(400), peers=[forward(posted())])
case("fold-te-second", 12, post(b"Transfer-Encoding: chunked\r\n , identity\r\n", _five), refuse(400, 501))
case("space-before-first-field", 12, b"GET " + T + b" HTTP/1.1\r\n X-A: b\r\n" + H + b"\r\n", refuse(400),
     peers=[refuse(400, closed=ANY), forward(Seen(lacks=("x-a",)))])
case("space-before-first-host", 12, b"GET " + T + b" HTTP/1.1\r\n Host: b.example\r\n" + H + b"\r\n", refuse(400),
     peers=[refuse(400, closed=ANY), forward(Seen())])
case("bare-lf-head", 13, b"GET " + T + b" HTTP/1.1\nHost: a.example\n\n", refuse(400), peers=[refuse(400, closed=ANY), forward(Seen())])
case("bare-lf-end-of-head", 13, b"GET " + T + b" HTTP/1.1\r\nHost: a.example\r\n\n", refuse(400),
     peers=[refuse(400, closed=ANY), forward(Seen())])
case("bare-lf-injects-te", 13, post(b"X-A: b\nTransfer-Encoding: chunked\r\n" + length(_hidden), _hidden), refuse(400), peers=_te_wins(b""))
case("bare-cr-as-line-end", 13, b"GET " + T + b" HTTP/1.1\rHost: a.example\r\r\r\n\r\n", refuse(400))
case("bare-cr-in-request-line", 13, b"GET " + T + b"\r HTTP/1.1\r\n" + H + b"\r\n", refuse(400))
case("bare-cr-in-host", 13, req(host=b"Host: a.example\rb\r\n"), refuse(400), peers=[refuse(400, closed=ANY)])
case("crcrlf-end-of-head", 13, b"GET " + T + b" HTTP/1.1\r\nHost: a.example\r\n\r\r\n\r\n", refuse(400),
     peers=[refuse(400, closed=ANY), forward(Seen())])
case("name-cl-at-sign", 14, post(b"Content-Length@: 5\r\n" + length(b"hello"), b"hello"), refuse(400), peers=[forward(posted())])
case("name-cl-nul", 14, post(b"Content-Length\x00: 5\r\n", b"hello"), refuse(400))
case("name-te-high-bit", 14, post(length(b"hello") + b"Transfer-Encodin\xe7: chunked\r\n", b"hello"), refuse(400), peers=[forward(posted())])
_many = [refuse(400, 431, closed=ANY), forward(Seen())]
case("head-too-large", 14, req(b"X-A: " + b"b" * 20000 + b"\r\n"), refuse(431), peers=_many)
case("head-too-large-many", 14, req(b"".join(b"X-%02d: " % n + b"b" * 400 + b"\r\n" for n in range(60))), refuse(431), peers=_many)
case("head-too-large-in-pieces", 14, (b"GET " + T + b" HTTP/1.1\r\n" + H, 0.02) + (b"X-A: " + b"b" * 3000 + b"\r\n", 0.01) * 8 + (b"\r\n",),
     refuse(431), peers=_many)
case("head-fields-150", 14, req(b"".join(b"X-%03d: b\r\n" % n for n in range(150))), refuse(431), peers=_many)
case("head-fields-101", 14, req(b"".join(b"X-%03d: b\r\n" % n for n in range(100))), refuse(431), peers=_many)
case("head-fields-100", 14, req(b"".join(b"X-%03d: b\r\n" % n for n in range(99))), forward(Seen(has={"x-098": b"b"})), peers=_many)
case("head-fields-90", 14, req(b"".join(b"X-%03d: b\r\n" % n for n in range(90))), forward(Seen(has={"x-000": b"b", "x-089": b"b"})))
case("head-12-KB", 14, req(b"".join(b"X-%d: " % n + b"b" * 6000 + b"\r\n" for n in range(2))),
     forward(Seen(has={"x-0": b"b" * 6000, "x-1": b"b" * 6000})), peers=_many)
case("head-byte-by-byte", 14, (Slow(req(b"X-A: b\r\n")),), forward(Seen(has={"x-a": b"b"})))

# --- Row 15: Host -----------------------------------------------------------------------------------------------------------------


def _host(name, lines, *house, peers=(), **more):
    case("host-" + name, 15, req(host=lines, **more), *(house or (refuse(400),)), peers=list(peers) or [refuse(400, closed=ANY)])


_host("none", b"")
_host("two-same", H + H)
_host("two-different", H + b"Host: b.example\r\n")
_host("two-apart", H + b"X-A: b\r\nhOST: b.example\r\n")
_host("two-second-empty", H + b"Host:\r\n")
_host("space-inside", b"Host: a.example b.example\r\n")
_host("list", b"Host: a.example, b.example\r\n")
_host("url", b"Host: http://a.example/\r\n")
_host("slash", b"Host: a.example/x\r\n")
_host("backslash", b"Host: a.example\\x\r\n")
_host("userinfo", b"Host: user@a.example\r\n")
_host("query", b"Host: a.example?x\r\n")
_host("fragment", b"Host: a.example#x\r\n")
_host("port-letters", b"Host: a.example:http\r\n")
_host("port-twice", b"Host: a.example:80:80\r\n")
_host("port-sign", b"Host: a.example:+80\r\n")
_host("quote", b'Host: "a.example"\r\n')
_host("angle", b"Host: <a.example>\r\n")
_host("high-bit", b"Host: a.ex\xe4mple\r\n")
_host("nul", b"Host: a.example\x00\r\n")
_host("tab-inside", b"Host: a.example\tb\r\n")
_host("bracket-open", b"Host: [::1\r\n")
_host("bracket-junk", b"Host: [::1]x\r\n")
_host("bracket-no-address", b"Host: [a.example]\r\n")
_host("bad-percent", b"Host: a%zz.example\r\n", refuse(400), peers=[refuse(400, closed=ANY)])
_host("empty", b"Host:\r\n", refuse(400), peers=[refuse(400, closed=ANY), forward(Seen(host=ANY))])
_host("ipv6", b"Host: [::1]\r\n", forward(Seen(host=b"[::1]")))
_host("port", b"Host: a.example:8080\r\n", forward(Seen(host=b"a.example:8080")),
      peers=[forward(Seen(), words="forward without the port (a setting)")])
_host("upper-case", b"hOsT: A.Example\r\n", forward(Seen()))
_host("last-field", b"X-A: b\r\n" + H, forward(Seen(has={"x-a": b"b"})))
_host("none-http10", b"", forward(Seen(host=ANY), closed=True), version=b"HTTP/1.0")
_host("two-http10", H + b"Host: b.example\r\n", version=b"HTTP/1.0")
case("host-none-after-good", 15, req() + req(host=b"", target=T2), refuse(400, before=[ok()], origin=[Seen()]),
     peers=[refuse(400, before=[ok()], origin=[Seen()], closed=ANY)])

# --- Row 16: absolute-form ----------------------------------------------------------------------------------------------------------

_other = b"Host: other.example\r\n"


def _abs(name, target, *house, host=b"Host: b.example\r\n", method=b"GET", peers=(), **more):
    case("absolute-" + name, 16, req(target=target, host=host, method=method, **more), *house, peers=peers)


def _went(target=T, whole=b"", host=b"b.example", **more):
    """Origin-form; others may send it as it came (every server must take that), but with the right Host."""
    return forward(Seen(target=(target, whole) if whole else target, host=host, **more))


_url = b"http://b.example" + T
_abs("same-host", _url, _went(), peers=[_went(whole=_url)])
_abs("other-host", _url, _went(), host=_other, peers=[_went(whole=_url)])
_abs("upper-case", b"HTTP://B.EXAMPLE" + T, _went(), peers=[_went(whole=b"HTTP://B.EXAMPLE" + T)])
_abs("port", b"http://b.example:8080" + T, _went(host=b"b.example:8080"), host=_other,
     peers=[_went(whole=b"http://b.example:8080" + T, host=(b"b.example:8080", b"b.example"))])
_abs("empty-path", b"http://b.example", _went(b"/"), peers=[_went(b"/", whole=b"http://b.example"), _went(b"/", whole=b"http://b.example/")])
_abs("empty-path-query", b"http://b.example?x=1", _went(b"/?x=1"), peers=[_went(b"/?x=1", whole=b"http://b.example?x=1")])
_abs("options-empty-path", b"http://b.example", forward(Seen(method=b"OPTIONS", target=b"*", host=b"b.example")), method=b"OPTIONS")
_abs("options-path", _url, _went(method=b"OPTIONS"), method=b"OPTIONS", peers=[_went(whole=_url, method=b"OPTIONS")])
_abs("http10-no-host", _url, _went(), host=b"", version=b"HTTP/1.0", peers=[_went(whole=_url), _went(whole=_url, host=ANY)])
_abs("no-host", _url, refuse(400), host=b"", peers=[refuse(400, closed=ANY)])
_abs("two-hosts", _url, refuse(400), host=b"Host: b.example\r\nHost: b.example\r\n", peers=[refuse(400, closed=ANY)])
_abs("bad-host", _url, refuse(400), host=b"Host: b.example x\r\n", peers=[refuse(400, closed=ANY)])
_abs("no-authority", b"http://" + T, refuse(400), peers=[refuse(400, closed=ANY)])
_abs("userinfo", b"http://user:pw@b.example" + T, refuse(400), _went(),
     peers=[refuse(400, closed=ANY), _went(whole=b"http://user:pw@b.example" + T)])
_abs("bad-authority", b"http://b.example:x" + T, refuse(400), peers=[refuse(400, closed=ANY)])
_abs("fragment", _url + b"#x", refuse(400), peers=[refuse(400, closed=ANY)])
_abs("https", b"https://b.example" + T, _went(), refuse(400, 421), host=_other,
     peers=[_went(whole=b"https://b.example" + T), refuse(400, 403, 404, 421, 501, closed=ANY)])
_abs("other-scheme", b"ftp://b.example" + T, refuse(400, 421, 501), _went(),
     peers=[_went(whole=b"ftp://b.example" + T), refuse(400, 403, 404, 421, 501, closed=ANY)])

# --- Row 17: the request line -------------------------------------------------------------------------------------------------------


def _line(name, line, *house, row=17, peers=(), soft=True, **more):
    """`soft`: others need not close, because the message ends in one way only."""
    peers = list(peers) + ([refuse(400, closed=ANY)] if soft else [])
    case("line-" + name, row, line + b"\r\n" + H + b"\r\n", *(house or (refuse(400),)), peers=peers, **more)


_line("two-spaces", b"GET  " + T + b" HTTP/1.1", peers=[forward(Seen())])
_line("two-spaces-before-version", b"GET " + T + b"  HTTP/1.1", peers=[forward(Seen())])
_line("tabs", b"GET\t" + T + b"\tHTTP/1.1", peers=[forward(Seen())])
_line("space-before-method", b" GET " + T + b" HTTP/1.1", peers=[forward(Seen())])
_line("space-after-version", b"GET " + T + b" HTTP/1.1 ", peers=[forward(Seen())])
_line("word-after-version", b"GET " + T + b" HTTP/1.1 x")
_line("space-in-target", b"GET " + T + b" x HTTP/1.1")
_line("vt-in-target", b"GET " + T + b"\x0bx HTTP/1.1")
_line("nul-in-target", b"GET " + T + b"\x00x HTTP/1.1")
_line("ctl-in-target", b"GET " + T + b"\x01x HTTP/1.1")
_line("del-in-target", b"GET " + T + b"\x7fx HTTP/1.1")
_line("lf-before-version", b"GET " + T + b"\nHTTP/1.1")
_line("fragment", b"GET " + T + b"#x HTTP/1.1")
_line("no-version", b"GET " + T)
_line("no-target", b"GET HTTP/1.1")
_line("no-target-two-spaces", b"GET  HTTP/1.1")
_line("no-method", b" " + T + b" HTTP/1.1")
_line("method-only", b"GET")
_line("method-paren", b"GE(T " + T + b" HTTP/1.1")
_line("method-colon", b"GET: " + T + b" HTTP/1.1")
_line("method-nul", b"GE\x00T " + T + b" HTTP/1.1")
_line("method-high-bit", b"GET\xa0 " + T + b" HTTP/1.1")
_line("method-quoted", b'"GET" ' + T + b" HTTP/1.1")
_line("no-slash", b"GET " + T[1:] + b" HTTP/1.1")
_line("authority-form", b"GET a.example:80 HTTP/1.1")
_line("asterisk", b"GET * HTTP/1.1", peers=[forward(Seen(target=b"*"))])
_line("version-lower-case", b"GET " + T + b" http/1.1", refuse(400, 505))
_line("version-no-minor", b"GET " + T + b" HTTP/1", refuse(400, 505))
_line("version-two-digits", b"GET " + T + b" HTTP/1.10", refuse(400, 505))
_line("version-zeros", b"GET " + T + b" HTTP/01.1", refuse(400, 505))
_line("version-comma", b"GET " + T + b" HTTP/1,1", refuse(400, 505))
_line("version-space", b"GET " + T + b" HTTP/ 1.1", refuse(400, 505))
_line("version-word", b"GET " + T + b" HTTPS/1.1", refuse(400, 505))
_line("version-sign", b"GET " + T + b" HTTP/+1.1", refuse(400, 505))
_line("version-2.0", b"GET " + T + b" HTTP/2.0", refuse(505), peers=[refuse(400, 505, closed=ANY)])
_line("version-3.1", b"GET " + T + b" HTTP/3.1", refuse(505), peers=[refuse(400, 505, closed=ANY)])
_line("version-0.9", b"GET " + T + b" HTTP/0.9", refuse(505, 400), peers=[refuse(400, 505, closed=ANY)])
_line("version-1.2", b"GET " + T + b" HTTP/1.2", forward(Seen()), refuse(505), peers=[refuse(400, 505, closed=ANY)])
case("http09", 17, b"GET " + T + b"\r\n\r\n", refuse(400, 505))
case("h2-preface", 17, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", refuse(505, 400, silent=True),
     peers=[Outcome("speak HTTP/2", ANY, ())])
case("tls-hello", 17, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", refuse(400, silent=True))
case("target-empty-lines-before", 17, b"\r\n" + req(), forward(Seen()))
case("target-three-empty-lines-before", 17, b"\r\n\r\n\r\n" + req(), forward(Seen()), refuse(400))
case("target-lf-before", 17, b"\n" + req(), refuse(400), forward(Seen()))
case("target-cr-before", 17, b"\r" + req(), refuse(400), peers=[forward(Seen())])
case("target-blank-line-before", 17, b" \r\n" + req(), refuse(400))
case("target-empty-line-between", 17, req() + b"\r\n" + NEXT, forward(Seen(), Seen(target=T2)))
for _name, _rest in [("high-bit", b"\xff\xc3\xa9"), ("quote", b'"<>'), ("braces", b"{|}"), ("backslash", b"\\x"), ("caret", b"^`")]:
    _line("target-" + _name, b"GET " + T + _rest + b" HTTP/1.1", forward(Seen(target=T + _rest)), refuse(400))
for _name, _rest in [("bad-percent", b"%zz%4"), ("percent-nul", b"%00"), ("percent-crlf", b"%0d%0aX-A:%20b")]:
    _line("target-" + _name, b"GET " + T + _rest + b" HTTP/1.1", forward(Seen(target=T + _rest)))
for _name, _rest in [("percent-dots", b"/%2e%2e/x"), ("dots", b"/../.." + T), ("slashes", b"//x///"), ("semicolon", b";a=b/c;d"),
                     ("query", b"?a=b?c&d=/../%2f"), ("two-queries", b"??")]:
    _line("target-" + _name, b"GET " + T + _rest + b" HTTP/1.1", forward(Seen(target=T + _rest)), soft=_name == "dots")
case("target-too-long", 17, req(target=T + b"a" * 9000), refuse(414),
     peers=[refuse(400, 414, 431, closed=ANY), forward(Seen(target=T + b"a" * 9000))])
case("target-far-too-long", 17, req(target=T + b"a" * 30000), refuse(414, 431), peers=[refuse(400, 414, 431, closed=ANY)])
case("target-8192", 17, req(target=T + b"a" * (8192 - len(T))), forward(Seen(target=T + b"a" * (8192 - len(T)))),
     peers=[refuse(400, 414, 431, closed=ANY)])
case("target-8193", 17, req(target=T + b"a" * (8193 - len(T))), refuse(414),
     peers=[refuse(400, 414, 431, closed=ANY), forward(Seen(target=T + b"a" * (8193 - len(T))))])
case("target-7000", 17, req(target=T + b"a" * 7000), forward(Seen(target=T + b"a" * 7000)), peers=[refuse(400, 414, 431, closed=ANY)])
case("method-unknown", 17, req(method=b"BREW"), forward(Seen(method=b"BREW")), peers=[refuse(405, 501, closed=ANY)])
case("method-lower-case", 17, req(method=b"get"), forward(Seen(method=b"get")), peers=[refuse(400, 405, 501, closed=ANY)])
case("method-token-chars", 17, req(method=b"M-SEARCH!#$%&'*+.^_`|~9"), forward(Seen(method=b"M-SEARCH!#$%&'*+.^_`|~9")),
     peers=[refuse(400, 405, 501, closed=ANY)])
case("method-300-bytes", 17, req(method=b"A" * 300), forward(Seen(method=b"A" * 300)), refuse(400, 501),
     peers=[refuse(400, 405, 414, 501, closed=ANY)])
case("pipelined-three", 17, req() + NEXT + req(target=T + b"?3"), forward(Seen(), Seen(target=T2), Seen(target=T + b"?3")))
case("pipelined-bodies", 17, post(length(b"hello"), b"hello") + post(CHUNKED, _five, target=T2) + req(target=T + b"?3"),
     forward(posted(), posted(target=T2), Seen(target=T + b"?3")))
case("pipelined-twenty", 17, b"".join(req(target=T + b"?%d" % n) for n in range(20)),
     forward(*(Seen(target=T + b"?%d" % n) for n in range(20))))
case("pipelined-two-hundred", 17, b"".join(post(length(b"b%d" % n), b"b%d" % n, target=T + b"?%d" % n) for n in range(200)),
     forward(*(Seen(method=b"POST", target=T + b"?%d" % n, body=b"b%d" % n) for n in range(200))))
case("pipelined-large-bodies", 17, b"".join(post(CHUNKED, b"c350\r\n" + b"z" * 50000 + b"\r\n0\r\n\r\n", target=T + b"?%d" % n) for n in range(8)),
     forward(*(Seen(method=b"POST", target=T + b"?%d" % n, body=b"z" * 50000) for n in range(8))))
case("large-post-then-fin", 17, (post(length(b"0123456789" * 30000), b"0123456789" * 30000), SHUT), forward(Seen(method=b"POST", body=b"0123456789" * 30000)),
     peers=[Outcome("leave when the client seems to leave", ANY, ANY, partial=True)])
case("pipelined-cut-anywhere", 17, (req() + NEXT[:3], 0.02, NEXT[3:40], 0.02, NEXT[40:]), forward(Seen(), Seen(target=T2)))
case("pipelined-then-fin", 17, (req() + NEXT, SHUT), forward(Seen(), Seen(target=T2)),
     peers=[Outcome("leave when the client seems to leave", ANY, ANY, partial=True)])
case("http10", 17, req(**_old), forward(Seen(), closed=True, answers=[ok(lacks=("transfer-encoding",))]))
case("http10-keep-alive", 17, req(b"Connection: keep-alive\r\n", **_old), forward(Seen(lacks=("keep-alive",))))
case("http10-post", 17, post(length(b"hello"), b"hello", **_old), forward(posted(), closed=True))
case("http10-then-more", 17, req(**_old) + EVIL, forward(Seen(), closed=True))

# --- Row 18: Connection -------------------------------------------------------------------------------------------------------------


def _hop(name, fields, *, lacks=(), has=None, house_has=None, house_lacks=(), body=b"", closed=ANY, peers=(), house=()):
    method = POST if body else b"GET"
    seen = Seen(method=method, body=b"hello" if body else b"", lacks=tuple(lacks), has=has or {}, house_has=house_has or {},
                house_lacks=tuple(house_lacks))
    case("hop-" + name, 18, req(fields, body, method=method), forward(seen, closed=closed), *house, peers=peers)


_hop("named", b"Connection: X-A\r\nX-A: b\r\nX-Last: v\r\n", lacks=["x-a"], has=_last)
_hop("named-case", b"connection: x-a\r\nX-A: b\r\n", lacks=["x-a"])
_hop("named-before", b"X-A: b\r\nConnection: X-A\r\n", lacks=["x-a"])
_hop("named-among-others", b"Connection: keep-alive, X-A ,\tX-B\r\nX-A: b\r\nX-B: c\r\nX-C: d\r\n", lacks=["x-a", "x-b"], has={"x-c": b"d"})
_hop("named-empty-elements", b"Connection: , ,X-A,,\r\nX-A: b\r\n", lacks=["x-a"])
_hop("named-two-lines", b"Connection: X-A\r\nX-A: b\r\nX-B: c\r\nConnection: X-B\r\n", lacks=["x-a", "x-b"])
_hop("named-repeated-field", b"Connection: X-A\r\nX-A: b\r\nX-Last: v\r\nX-A: c\r\n", lacks=["x-a"], has=_last)
_hop("named-absent", b"Connection: X-Nowhere\r\nX-Last: v\r\n", has=_last)
_hop("named-cookie", b"Connection: Cookie\r\nCookie: a=b\r\n", lacks=["cookie"])
_hop("close-and-named", b"Connection: close, X-A\r\nX-A: b\r\n", lacks=["x-a"], closed=True)
_hop("names-cl", b"Connection: Content-Length\r\nContent-Length: 5\r\n", body=b"hello", has={"content-length": ANY},
     peers=[refuse(400), forward(posted())])
_hop("names-cl-close", b"Connection: close, content-length\r\nContent-Length: 5\r\n", body=b"hello", closed=True)
_hop("names-te", b"Connection: Transfer-Encoding\r\n" + CHUNKED, body=_five, peers=[refuse(400)])
_hop("names-host", b"Connection: Host\r\n", peers=[refuse(400, closed=ANY)])
_hop("names-xff", b"Connection: X-Forwarded-For\r\nX-Forwarded-For: 192.0.2.1\r\n", house_has={"x-forwarded-for": lambda v: v.endswith(b"127.0.0.1")})
_hop("names-via", b"Connection: Via\r\n", house_has={"via": lambda v: v.endswith(b"1.1 pilb")})
_hop("names-connection", b"Connection: Connection\r\nX-Last: v\r\n", has=_last)
_hop("known", b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: x\r\nX-Last: v\r\n",
     has=_last, house_lacks=["keep-alive", "proxy-connection", "te", "upgrade"])
_hop("known-named", b"Connection: Keep-Alive, TE\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\n", lacks=["keep-alive", "te"])
_hop("te-trailers", b"Connection: TE\r\nTE: trailers, gzip\r\n", has={}, house_has={}, peers=[])
_hop("close", b"Connection: close\r\n", closed=True)
_hop("close-case", b"Connection: CLOSE\r\n", closed=True)
_hop("close-is-no-substring", b"Connection: enclosed\r\n", closed=False, peers=[forward(Seen())])
_hop("empty", b"Connection:\r\n")
_hop("keep-alive-and-close", b"Connection: keep-alive\r\nConnection: close\r\n", closed=True)
_hop("not-a-token", b"Connection: @, X-A\r\nX-A: b\r\n", lacks=["x-a"], house=[refuse(400)], peers=[refuse(400, closed=ANY)])
case("hop-close-then-more", 18, req(b"Connection: close\r\n") + EVIL, forward(Seen(), closed=True))

# --- Row 19: Upgrade ----------------------------------------------------------------------------------------------------------------

_ws = (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
_101 = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
_not_upgraded = [answered(ok(), status(400), closed=True, origin=(Seen(),), words="forward without upgrade")]
case("upgrade-tunnel", 19, (req(_ws), ANSWER, b"ping\r\n\r\n"),
     Outcome("tunnel", (status(101, has={"upgrade": b"websocket"}, tunnel=b"pong:ping\r\n\r\n"),),
             (Seen(has={"upgrade": b"websocket", "connection": lambda v: b"upgrade" in v.lower()}),)),
     peers=_not_upgraded, script=(_101, TUNNEL), script_if="upgrade")
case("upgrade-tunnel-looks-like-http", 19, (req(_ws), ANSWER, EVIL),
     Outcome("tunnel", (status(101, tunnel=b"pong:" + EVIL),), (Seen(),)),
     peers=[forward(Seen(), Seen(target=S))], script=(_101, TUNNEL), script_if="upgrade")
case("upgrade-then-client-fin", 19, (req(_ws), ANSWER, SHUT), Outcome("tunnel, then both ends", (status(101),), (Seen(),), True),
     peers=[answered(ok(), closed=True, origin=(Seen(),), words="forward without upgrade")], script=(_101, TUNNEL), script_if="upgrade")
case("upgrade-and-client-fin", 19, (req(_ws), SHUT), Outcome("tunnel, then both ends", (status(101),), (Seen(),), True),
     peers=[Outcome("leave when the client seems to leave", ANY, ANY, partial=True)], script=(_101, TUNNEL), script_if="upgrade")
case("upgrade-then-client-leaves", 19, (req(_ws), ANSWER, CLOSE), Outcome("tunnel, then both ends", ANY, (Seen(),)),
     script=(_101, TUNNEL), script_if="upgrade")
case("upgrade-tunnel-100-KB", 19, (req(_ws), ANSWER, b"x" * 100000), Outcome("tunnel", (status(101, tunnel=b"pong:" + b"x" * 100000),), (Seen(),)),
     peers=[answered(ok(), status(400), closed=True, origin=(Seen(),))], script=(_101, TUNNEL), script_if="upgrade")
case("upgrade-refused-pipelined", 19, req(_ws) + NEXT, forward(Seen(), Seen(target=T2)))
case("upgrade-refused-then-next", 19, (req(_ws), ANSWER, NEXT), forward(Seen(), Seen(target=T2)))
case("upgrade-refused-body", 19, post(_ws + length(EVIL), EVIL), forward(posted(EVIL)))
case("upgrade-h2c", 19, req(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
     forward(Seen(house_lacks=("upgrade", "http2-settings"))))
case("upgrade-h2c-case", 19, req(b"Connection: upgrade\r\nUpgrade: H2C\r\n"), forward(Seen(house_lacks=("upgrade",))))
case("upgrade-h2c-not-named", 19, req(b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
     forward(Seen(house_lacks=("upgrade",))))
case("upgrade-list-with-h2c", 19, req(_ws.replace(b"websocket\r\n", b"h2c, websocket\r\n", 1)),
     forward(Seen(), words="forward, h2c taken out or no upgrade at all"), peers=[refuse(400, closed=ANY)])
case("upgrade-not-named", 19, req(b"Upgrade: websocket\r\n"), forward(Seen(house_lacks=("upgrade",))))
case("upgrade-http10", 19, req(_ws, **_old), forward(Seen(lacks=("upgrade",)), closed=True))
case("upgrade-named-absent", 19, req(b"Connection: Upgrade\r\nX-Last: v\r\n") + NEXT, forward(Seen(has=_last), Seen(target=T2)))

# --- Row 20: bodies that nobody reads -------------------------------------------------------------------------------------------------

_waits = b"Expect: 100-continue\r\n"
_401 = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
_413 = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n"
case("unread-expect-refused-then-body", 20, (post(_waits + length(EVIL), b""), ANSWER, EVIL), answered(status(401)), script=(HEAD, _401))
_own_100 = [Outcome("100 by itself, wait for the body", (), ANY, partial=True)]
case("unread-expect-refused-no-body", 20, (post(_waits + length(EVIL), b""), ANSWER), answered(status(401), words="401, close or wait for the body"),
     peers=_own_100, script=(HEAD, _401, BODY), owes=True)
case("unread-expect-refused-chunked", 20, (post(_waits + CHUNKED, b""), ANSWER, b"0\r\n\r\n" + NEXT), answered(status(401), closed=True),
     answered(status(401), ok(T2)), script=(HEAD, _401))
case("unread-early-413", 20, (post(length(b"hello" + EVIL), b"hello"), 0.05, EVIL), answered(status(413)), script=(HEAD, _413 + b"\r\n"))
case("unread-early-413-close", 20, (post(length(b"hello" + EVIL), b"hello"), 0.05, EVIL), answered(status(413)),
     script=(HEAD, _413 + b"Connection: close\r\n\r\n", CLOSE))
case("unread-early-200-chunked", 20, (post(CHUNKED, b"5\r\nhello\r\n"), 0.05, b"0\r\n\r\n" + NEXT), answered(status(200), closed=True),
     answered(status(200), ok(T2)), script=(HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
case("unread-max-forwards", 20, req(b"Max-Forwards: 0\r\n" + length(EVIL), EVIL, method=b"OPTIONS"),
     answered(status(200, 204), origin=(), words="200 without asking the origin"))
case("unread-trace", 20, req(length(EVIL), EVIL, method=b"TRACE"), refuse(405, 400, closed=ANY),
     peers=[refuse(400, 405, 413, 501, closed=ANY), forward(Seen(method=b"TRACE", body=(EVIL, b"")))])
case("unread-connect", 20, req(length(EVIL), EVIL, method=b"CONNECT", target=b"a.example:80"), refuse(405, 400, closed=ANY),
     peers=[refuse(400, 405, 501, closed=ANY)])
case("unread-417", 20, post(b"Expect: the-unexpected\r\n" + length(EVIL), EVIL), refuse(417), peers=[refuse(417, closed=ANY), forward(posted(EVIL))])
for _name, _end in [("close", CLOSE), ("reset", RESET)]:
    case(f"left-before-answer-{_name}", 20, (req(), 0.03, _end), Outcome("nobody gets that answer", ANY, ANY, partial=True),
         script=(0.25, b"HTTP/1.1 200 OK\r\nX-Echo: GET /POISON\r\nContent-Length: 6\r\n\r\nPOISON"), hurry=True, warm=True)
    case(f"left-in-answer-{_name}", 20, (req(), 0.05, _end), Outcome("nobody gets that answer", ANY, ANY, partial=True), hurry=True, warm=True,
         script=(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n", 0.25, (b"HTTP/1.1 200 OK\r\nX-Echo: GET /POISON\r\nContent-Length: 0\r\n\r\n" * 10)[:600]))
    case(f"left-in-body-{_name}", 20, (post(length(b"hello" + EVIL), b"hello"), 0.05, _end), unfinished(), hurry=True, warm=True)
    case(f"left-in-chunk-{_name}", 20, (post(CHUNKED, b"100\r\nhello"), 0.05, _end), unfinished(), hurry=True, warm=True)
    case(f"left-after-post-{_name}", 20, (post(length(b"hello"), b"hello"), 0.03, _end), Outcome("nobody gets that answer", ANY, ANY, partial=True),
         script=(0.25, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"), hurry=True, warm=True)
case("body-on-get", 20, req(length(EVIL), EVIL), forward(Seen(body=EVIL)))
case("body-on-head", 20, req(length(EVIL), EVIL, method=b"HEAD") + NEXT, forward(Seen(method=b"HEAD", body=EVIL), Seen(target=T2)))
case("body-on-delete", 20, req(CHUNKED, b"%x\r\n" % len(EVIL) + EVIL + b"\r\n0\r\n\r\n", method=b"DELETE"), forward(Seen(method=b"DELETE", body=EVIL)))
case("body-on-options", 20, req(length(EVIL), EVIL, method=b"OPTIONS"), forward(Seen(method=b"OPTIONS", body=EVIL)))

# --- Row 21: after a malformed request -------------------------------------------------------------------------------------------------

for _name, _bytes, _status, _framed in [
        ("no-host", req(host=b""), (400,), True), ("version", req(version=b"HTTP/4.2"), (505,), True),
        ("line", b"GET  " + T + b" HTTP/1.1\r\n" + H + b"\r\n", (400,), True), ("field", req(b"X-A : b\r\n"), (400,), True),
        ("cl", req(b"Content-Length: x\r\n"), (400,), False), ("te", req(b"Transfer-Encoding: x\r\n"), (400, 501), False),
        ("head-size", req(b"X-A: " + b"b" * 40000 + b"\r\n"), (431,), True), ("target-size", req(target=T + b"a" * 12000), (414,), True),
        ("expect", req(b"Expect: x\r\n"), (417,), True), ("garbage", b"\x00\x01garbage\r\n\r\n", (400,), True)]:
    _codes = tuple(sorted({*_status, 400, 413, 414, 417, 431, 505}))
    case(f"after-bad-{_name}", 21, _bytes + EVIL, refuse(*_status),
         peers=[refuse(*_codes)] + ([answered(status(*_codes), ok(S), origin=(Seen(target=S),), words="refuse, then the next"),
                                     forward(Seen(host=ANY, target=ANY), Seen(target=S), answers=[status(200), ok(S)])] if _framed else []))
for _name, _bytes, _status in [
        ("no-host", req(host=b"", method=b"HEAD"), (400,)), ("field", req(b"X-A : b\r\n", method=b"HEAD"), (400,)),
        ("bare-cr", req(b"X-A: b\rc\r\n", method=b"HEAD"), (400,)), ("cl", req(b"Content-Length: x\r\n", method=b"HEAD"), (400,)),
        ("te", req(b"Transfer-Encoding: x\r\n", method=b"HEAD"), (400, 501)), ("expect", req(b"Expect: x\r\n", method=b"HEAD"), (417,)),
        ("version", req(version=b"HTTP/2.0", method=b"HEAD"), (505,)),
        ("head-size", req(b"X-A: " + b"b" * 40000 + b"\r\n", method=b"HEAD"), (431,)),
        ("target-size", req(method=b"HEAD", target=T + b"a" * 40000), (414, 431))]:
    # Row 26: no content in an answer to HEAD. Whoever waits for none takes it for the next answer.
    _bare = Outcome("refuse " + "/".join(map(str, _status)), (Answer(_status, body=b""),), (), True, partial=True)
    case(f"refused-head-{_name}", 26, _bytes, _bare, peers=[
        Outcome("refuse without content", (Answer((400, 413, 414, 417, 431, 501, 505), body=b""),), (), partial=True),
        forward(Seen(method=b"HEAD", target=ANY, host=ANY), answers=[status(200)])])
case("after-bad-chunk", 21, post(CHUNKED, b"5x\r\n" + EVIL), refuse(400))
case("after-bad-second", 21, req() + b"GET " + T2 + b" HTTP/1.1\r\n" + H + b"X-A : b\r\n\r\n" + EVIL, refuse(400, before=[ok()], origin=[Seen()]),
     peers=[answered(ok(), status(400), ok(S), origin=(Seen(), Seen(target=S)), words="refuse, then the next")])
case("after-bad-large-body", 21, post(b"X-A : b\r\n" + length(b"0123456789" * 100000), b"0123456789" * 100000), refuse(400))
case("after-bad-chunk-large-body", 21, post(CHUNKED, b"5x\r\n" + b"0123456789" * 100000), refuse(400), peers=[refuse(400, silent=True)])
case("after-bad-later", 21, (req(b"X-A : b\r\n"), 0.05, EVIL), refuse(400),
     peers=[answered(status(400), ok(S), origin=(Seen(target=S),), words="refuse, then the next")])

# --- Rows 29 to 32 ---------------------------------------------------------------------------------------------------------------------


def _mf(name, value, *house, method=b"OPTIONS", peers=(), target=T):
    case("max-forwards-" + name, 29, req(b"Max-Forwards: %s\r\n" % value, method=method, target=target), *house, peers=peers)


def _left(value, method=b"OPTIONS", target=T):
    return forward(Seen(method=method, target=target, has={"max-forwards": value}), words="forward with " + value.decode())


_here = answered(status(200, 204), origin=(), words="200 without asking the origin")
_mf("0", b"0", _here)
_mf("00", b"00", _here, refuse(400))
_mf("0-asterisk", b"0", _here, target=b"*")
_mf("1", b"1", _left(b"0"))
_mf("10", b"10", _left(b"9"))
_mf("asterisk", b"3", _left(b"2", target=b"*"), target=b"*")
_mf("words", b"many", forward(Seen(method=b"OPTIONS")), refuse(400), peers=[refuse(400, closed=ANY)])
_mf("minus", b"-1", forward(Seen(method=b"OPTIONS")), refuse(400), peers=[refuse(400, closed=ANY)])
_mf("many-digits", b"9" * 40, forward(Seen(method=b"OPTIONS")), refuse(400), peers=[refuse(400, closed=ANY)])
_mf("get", b"0", forward(Seen()), method=b"GET")
_mf("trace-0", b"0", refuse(405, closed=ANY), method=b"TRACE", peers=[_here, refuse(405, 501, closed=ANY)])
_mf("trace-5", b"5", refuse(405, closed=ANY), method=b"TRACE", peers=[_left(b"4", method=b"TRACE"), refuse(405, 501, closed=ANY)])
case("options-asterisk", 29, req(method=b"OPTIONS", target=b"*"), forward(Seen(method=b"OPTIONS", target=b"*")))

_no = [refuse(400, 403, 404, 405, 501, closed=ANY)]
case("connect", 30, req(method=b"CONNECT", target=b"a.example:443"), refuse(405, closed=ANY), peers=_no)
case("connect-then-more", 30, req(method=b"CONNECT", target=b"a.example:443") + NEXT, refuse(405), answered(status(405), ok(T2), origin=(Seen(target=T2),)),
     peers=_no + [answered(status(400, 403, 404, 405, 501), ok(T2), origin=(Seen(target=T2),))])
case("connect-path", 30, req(method=b"CONNECT"), refuse(405, 400, closed=ANY), peers=_no)
case("connect-url", 30, req(method=b"CONNECT", target=b"http://a.example" + T), refuse(405, 400, closed=ANY), peers=_no)
case("connect-http10", 30, req(method=b"CONNECT", target=b"a.example:443", **_old), refuse(405, 400, closed=ANY), peers=_no)
case("trace", 30, req(method=b"TRACE"), refuse(405, closed=ANY), peers=[refuse(405, 501, closed=ANY), forward(Seen(method=b"TRACE"))])

_unmet = [refuse(417, closed=ANY)]
case("expect-and-wait", 31, (post(_waits + length(b"hello"), b""), INTERIM, b"hello"), forward(posted()))
case("expect-and-wait-chunked", 31, (post(_waits + CHUNKED, b""), INTERIM, _five), forward(posted()))
case("expect-without-waiting", 31, post(_waits + length(b"hello"), b"hello") + NEXT, forward(posted(), Seen(target=T2)))
case("expect-case", 31, (post(b"expect: 100-Continue\r\n" + length(b"hello"), b""), INTERIM, b"hello"), forward(posted()))
case("expect-no-body", 31, req(_waits), forward(Seen()))
case("expect-other", 31, req(b"Expect: 100-please\r\n"), refuse(417), peers=_unmet + [forward(Seen())])
case("expect-list", 31, post(b"Expect: 100-continue, x\r\n" + length(b"hello"), b"hello"), refuse(417), peers=_unmet + [forward(posted())])
case("expect-empty", 31, req(b"Expect:\r\n"), forward(Seen()), refuse(417, 400), peers=_unmet)
case("expect-http10", 31, post(_waits + length(b"hello"), b"hello", **_old), forward(posted(), closed=True, answers=[ok(interim=())]))
case("expect-origin-refuses", 31, (post(_waits + length(b"hello"), b""), ANSWER), answered(status(417)),
     script=(HEAD, b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", CLOSE),
     peers=_own_100, owes=True)

case("via-added", 32, req(), forward(Seen(house_has={"via": b"1.1 pilb"})))
case("via-appended", 32, req(b"Via: 1.0 fred\r\n"), forward(Seen(has={"via": lambda v: v.startswith(b"1.0 fred")},
                                                                house_has={"via": b"1.0 fred, 1.1 pilb"})))
case("via-two-lines", 32, req(b"Via: 1.0 fred\r\nX-A: b\r\nVia: 1.1 bob\r\n"), forward(Seen(house_has={"via": b"1.0 fred, 1.1 bob, 1.1 pilb"})))
case("via-http10", 32, req(**_old), forward(Seen(house_has={"via": (b"1.0 pilb", b"1.1 pilb")}), closed=True))
case("forwarded-added", 32, req(), forward(Seen(house_has={"x-forwarded-for": b"127.0.0.1", "x-forwarded-proto": b"http",
                                                           "x-forwarded-host": HOST})))
case("forwarded-appended", 32, req(b"X-Forwarded-For: 192.0.2.1\r\n"), forward(Seen(house_has={"x-forwarded-for": b"192.0.2.1, 127.0.0.1"})))
case("forwarded-forged", 32, req(b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n"),
     forward(Seen(house_has={"x-forwarded-proto": b"http", "x-forwarded-host": HOST})))
case("forwarded-post", 32, post(length(b"hello"), b"hello"), forward(posted(house_has={"via": b"1.1 pilb", "content-length": b"5"})))
