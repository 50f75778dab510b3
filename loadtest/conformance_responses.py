"""What origins send: the response side of the conformance recorder. The words are those of conformance_requests.

Here a case is the origin's script for the request with CASE in its target; the client's is a plain GET if it is not given.
"""
from conformance_requests import (ANSWER, ANY, BAD_CHUNKS, BAD_FIELDS, BODY, CHUNKED, CLOSE, DROP, EITHER_CHUNKS, GOOD_CHUNKS, GOOD_FIELDS,
                                  HEAD, NEXT, REFUSE, RESET, T, T2, TRAILERS, Answer, Case, Outcome, answered, length, ok, post, req,
                                  status)

CASES = []
OLD = req(version=b"HTTP/1.0")
POISON_ECHO = b"X-Echo: GET /POISON\r\n"


def deliver(body=ANY, code=200, closed=ANY, then=(), words="", **more):
    """The answer comes through whole."""
    return Outcome(words or f"deliver {code}", (Answer((code,), body=body, **more),) + tuple(then), ANY, closed)


def bad_gateway(*codes, then=(), closed=ANY, **more):
    return Outcome("502" if not codes else "/".join(map(str, codes)), (Answer(codes or (502, 504), **more),) + tuple(then), ANY, closed)


def cut(body=ANY, **more):
    """The head went out, the body ends visibly unfinished. `body`: what it would be if it were whole."""
    return Outcome("cut", (Answer((200,), cut=True, body=body, **more),), ANY, True)


def nothing(words="close without an answer"):
    return Outcome(words, (), ANY, True)


def case(name, row, script, *house, peers=(), send=None, **more):
    script = script if isinstance(script, tuple) else (script,)
    send = (req(),) if send is None else send if isinstance(send, tuple) else (send,)
    bad = all(outcome.words in ("502", "cut") for outcome in house)
    more.setdefault("discard", bad and CLOSE not in script and RESET not in script)
    if any(outcome.words == "cut" for outcome in house):
        peers = (*peers, nothing())
    CASES.append(Case("response", name, row, send, house, tuple(peers), script, **more))


def resp(fields=b"", body=b"", line=b"HTTP/1.1 200 OK"):
    return line + b"\r\n" + fields + b"\r\n" + body


HELLO = length(b"hello")
FIVE = b"5\r\nhello\r\n0\r\n\r\n"
POISON = resp(POISON_ECHO + b"Content-Length: 6\r\n", b"POISON")
LARGE = b"0123456789abcdef" * 20000

# --- Row 1: Transfer-Encoding and Content-Length ---------------------------------------------------------------------------------

_te_wins = [deliver(b"hello", lacks=("content-length",), words="deliver by TE")]
for _name, _fields, _body in [
        ("te-cl", CHUNKED + HELLO, FIVE), ("cl-te", HELLO + CHUNKED, FIVE), ("te-cl-zero", CHUNKED + b"Content-Length: 0\r\n", FIVE),
        ("te-cl-long", CHUNKED + b"Content-Length: 500\r\n", FIVE), ("te-cl-bad", CHUNKED + b"Content-Length: x\r\n", FIVE)]:
    case(_name, 1, resp(_fields, _body), bad_gateway(), peers=_te_wins)
case("te-cl-poison", 1, resp(CHUNKED + b"Content-Length: 5\r\n", FIVE + POISON), bad_gateway(), peers=_te_wins)
case("te-unknown-cl", 1, (resp(b"Transfer-Encoding: x\r\n" + HELLO, b"hello"), CLOSE), bad_gateway(),
     peers=[deliver(b"hello", lacks=("content-length",))])
case("te-cl-head", 1, resp(CHUNKED + HELLO), bad_gateway(), deliver(b""), send=req(method=b"HEAD"), discard=False)

# --- Rows 2 and 3: transfer codings -----------------------------------------------------------------------------------------------

for _name, _value in [("gzip", b"gzip"), ("identity", b"identity"), ("unknown", b"xchunked"), ("chunked-gzip", b"chunked, gzip"),
                      ("empty", b""), ("chunked-identity", b"chunked, identity"), ("quoted", b'"chunked"'), ("vt", b"\x0bchunked")]:
    _to_the_end = FIVE if b"chunked" in _value else b"hello"
    # A coding that is not chunked at the end: the body lasts until the close (9112 6.3), and may be passed on so.
    case("te-" + _name, 2, (resp(b"Transfer-Encoding: %s\r\n" % _value, _to_the_end), CLOSE), bad_gateway(),
         peers=[deliver(_to_the_end, words="deliver until the close"), cut(), nothing()])
for _name, _value in [("gzip-chunked", b"gzip, chunked"), ("chunked-twice", b"chunked, chunked"), ("parameter", b"chunked;q=1")]:
    case("te-" + _name, 2, resp(b"Transfer-Encoding: %s\r\n" % _value, FIVE), bad_gateway(), peers=[deliver(b"hello")])
case("te-two-lines", 2, resp(CHUNKED + CHUNKED, FIVE), bad_gateway(), peers=[deliver(b"hello")])
case("te-two-lines-identity", 2, (resp(CHUNKED + b"Transfer-Encoding: identity\r\n", FIVE), CLOSE), bad_gateway())
for _name, _value in [("comma-before", b",chunked"), ("comma-after", b"chunked,")]:
    case("te-" + _name, 2, resp(b"Transfer-Encoding: %s\r\n" % _value, FIVE), bad_gateway(), deliver(b"hello"), discard=False)
case("te-upper-case", 2, resp(b"TRANSFER-ENCODING: CHUNKED\r\n", FIVE), deliver(b"hello"))
case("te-tabs", 2, resp(b"Transfer-Encoding:\tchunked\t\r\n", FIVE), deliver(b"hello"))
_old_line = {"line": b"HTTP/1.0 200 OK"}
case("te-in-http10", 3, (resp(CHUNKED, FIVE, **_old_line), CLOSE), bad_gateway(),
     peers=[deliver((b"hello", FIVE), lacks=("content-length",)), deliver(b"hello")])
case("te-in-http10-kept", 3, resp(b"Connection: keep-alive\r\n" + CHUNKED, FIVE, **_old_line), bad_gateway(), peers=[deliver(b"hello")])
case("te-cl-in-http10", 3, (resp(CHUNKED + HELLO, FIVE, **_old_line), CLOSE), bad_gateway(), peers=[deliver(b"hello")])
case("te-to-http10-client", 3, resp(CHUNKED, FIVE), deliver(b"hello", closed=True, lacks=("transfer-encoding",)), send=OLD)
case("te-to-http10-client-kept", 3, resp(CHUNKED, FIVE), deliver(b"hello", lacks=("transfer-encoding",)),
     send=req(b"Connection: keep-alive\r\n", version=b"HTTP/1.0"))
case("te-to-http10-client-large", 3, resp(CHUNKED, b"%x\r\n" % len(LARGE) + LARGE + b"\r\n0\r\n\r\n"),
     deliver(LARGE, closed=True, lacks=("transfer-encoding",)), send=OLD)
case("te-to-http10-client-trailer", 3, resp(CHUNKED, b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"),
     deliver(b"hello", closed=True, lacks=("transfer-encoding",)), send=OLD)

# --- Rows 4 and 22: Content-Length -------------------------------------------------------------------------------------------------


def _cl(name, fields, *house, body=b"hello", peers=(), **more):
    case("cl-" + name, 22, resp(fields, body), *(house or (bad_gateway(),)), peers=peers, **more)


_one = [deliver(b"hello", words="deliver with one length")]
for _name, _value in [("plus", b"+5"), ("minus", b"-5"), ("hex", b"0x5"), ("letters", b"five"), ("empty", b""), ("blank", b"  "),
                      ("two-words", b"5 5"), ("junk", b"5x"), ("semicolon", b"5;"), ("point", b"5.0"), ("nul", b"5\x00"),
                      ("vt", b"\x0b5"), ("list-different", b"5, 6"), ("list-empty", b"5,"), ("quoted", b'"5"'),
                      ("2-to-64", b"18446744073709551616"), ("wraps-64", b"18446744073709551621"), ("many-digits", b"9" * 60)]:
    _cl(_name, b"Content-Length: " + _value + b"\r\n")
_cl("list-same", b"Content-Length: 5, 5\r\n", peers=_one)
_cl("lines-same", b"Content-Length: 5\r\nContent-Length: 5\r\n", peers=_one)
_cl("lines-different", b"Content-Length: 5\r\nContent-Length: 6\r\n", body=b"hello!")
_cl("lines-different-apart", b"Content-Length: 5\r\nX-A: b\r\nX-B: c\r\ncontent-length: 4\r\n")
_cl("lines-different-zeros", b"Content-Length: 5\r\nContent-Length: 05\r\n", peers=_one)
_cl("lines-empty-second", b"Content-Length: 5\r\nContent-Length:\r\n")
_cl("bad-on-head", b"Content-Length: x\r\n", body=b"", send=req(method=b"HEAD"), peers=[deliver(b"", lacks=("content-length",))])
_cl("lines-different-on-head", b"Content-Length: 5\r\nContent-Length: 6\r\n", body=b"", send=req(method=b"HEAD"))
case("cl-bad-in-pieces", 22, (b"HTTP/1.1 200 OK\r\nContent-Le", 0.02, b"ngth: 5\r\nContent-Length: 6\r", 0.02, b"\n\r\nhello!"), bad_gateway())
_cl("bad-then-poison", b"Content-Length: 5\r\nContent-Length: 6\r\n", body=b"hello" + POISON)
case("cl-plain", 22, resp(HELLO, b"hello"), deliver(b"hello", has={"content-length": b"5"}))
case("cl-zero", 22, resp(b"Content-Length: 0\r\n"), deliver(b""))
case("cl-zeros-before", 22, resp(b"Content-Length: 005\r\n", b"hello"), deliver(b"hello"))
case("cl-large", 22, resp(length(LARGE), LARGE), deliver(LARGE))
case("cl-large-slow", 22, (resp(length(LARGE), LARGE[:70000]), 0.03, LARGE[70000:200000], 0.03, LARGE[200000:]), deliver(LARGE))
case("cl-in-pieces", 22, tuple(x for i in range(0, 44, 4) for x in (resp(HELLO, b"hello")[i:i + 4], 0.003)), deliver(b"hello"))
case("close-delimited", 22, (resp(b"", b"hello"), CLOSE), deliver(b"hello"))
case("close-delimited-empty", 22, (resp(b""), CLOSE), deliver(b""))
case("close-delimited-large", 22, (resp(b"", LARGE), CLOSE), deliver(LARGE))
case("close-delimited-slow", 22, (resp(b"", b"hello"), 0.05, b" world", 0.05, CLOSE), deliver(b"hello world"))
case("close-delimited-http10", 22, (resp(b"", b"hello", **_old_line), CLOSE), deliver(b"hello"))
case("close-delimited-to-http10-client", 22, (resp(b"", b"hello"), CLOSE), deliver(b"hello", closed=True, lacks=("transfer-encoding",)), send=OLD)
case("close-delimited-says-keep-alive", 22, (resp(b"Connection: keep-alive\r\n", b"hello"), 0.05, CLOSE), deliver(b"hello"))
case("close-delimited-like-answers", 22, (resp(b"", b"hello" + POISON), CLOSE), deliver(b"hello" + POISON))
case("http10-length", 22, resp(HELLO, b"hello", **_old_line), deliver(b"hello"))
case("http10-length-kept", 22, resp(b"Connection: keep-alive\r\n" + HELLO, b"hello", **_old_line), deliver(b"hello"))

# --- Rows 5 to 9: chunks and trailers ---------------------------------------------------------------------------------------------

for _name, _row, _bytes, _decoded in GOOD_CHUNKS:
    case("chunk-" + _name, _row, resp(CHUNKED, _bytes), deliver(_decoded))
for _name, _row, _bytes, _decoded in EITHER_CHUNKS:
    case("chunk-" + _name, _row, resp(CHUNKED, _bytes), deliver(_decoded), bad_gateway(), cut(_decoded), discard=False)
for _name, _row, _bytes, _decoded in BAD_CHUNKS:
    case("chunk-" + _name, _row, resp(CHUNKED, _bytes), bad_gateway(), cut(),
         peers=[deliver(_decoded, words="deliver what is plain")] if _decoded is not None else [])
for _name, _row, _bytes, _never in TRAILERS:
    case("chunk-" + _name, _row, resp(CHUNKED + b"Trailer: X-Sum\r\n", b"5\r\nhello\r\n0\r\n" + _bytes + b"\r\n"),
         deliver(b"hello", trailers_lack=_never, lacks=("x-sum", "authorization", "set-cookie", "keep-alive"),
                 house_trailers={"x-sum": b"42"}), send=req(b"TE: trailers\r\nConnection: TE\r\n"))
case("chunk-byte-by-byte", 8, tuple(x for b in resp(CHUNKED, b'5;a="b"\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n') for x in (bytes([b]), 0.001)),
     deliver(b"hello"))
case("chunk-large", 5, resp(CHUNKED, b"%x\r\n" % len(LARGE) + LARGE + b"\r\n0\r\n\r\n"), deliver(LARGE))
case("chunk-large-in-pieces", 5, (resp(CHUNKED, b"%x\r\n" % len(LARGE) + LARGE[:100000]), 0.03, LARGE[100000:] + b"\r", 0.03, b"\n0\r\n\r", 0.03, b"\n"),
     deliver(LARGE))
case("chunk-many-small", 5, resp(CHUNKED, b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"), deliver(b"x" * 5000))
case("chunk-bad-later", 5, (resp(CHUNKED, b"5\r\nhello\r\n"), 0.05, b"5x\r\nworld\r\n0\r\n\r\n"), cut(b"hello"), bad_gateway())
case("chunk-lf-later", 6, (resp(CHUNKED, b"5\r\nhello\r\n"), 0.05, b"0\n\n"), cut(b"hello"), bad_gateway())
case("chunk-bad-after-large", 5, resp(CHUNKED, b"%x\r\n" % len(LARGE) + LARGE + b"X\r\n0\r\n\r\n"), cut(LARGE), bad_gateway())
case("chunk-size-all-ones", 5, (resp(CHUNKED, b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), 0.03, CLOSE), cut(), bad_gateway())
case("chunk-no-blank-line-then-answer", 8, resp(CHUNKED, b"5\r\nhello\r\n0\r\n" + POISON), cut(), bad_gateway())
case("trailer-huge", 9, resp(CHUNKED, b"5\r\nhello\r\n0\r\nX-A: " + b"b" * 70000 + b"\r\n\r\n"), cut(b"hello"), bad_gateway(),
     peers=[deliver(b"hello")])
case("trailer-hides-framing", 9, resp(CHUNKED, b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n"),
     deliver(b"hello", trailers_lack=("content-length", "transfer-encoding")), cut(b"hello"), bad_gateway(), discard=False)

# --- Rows 11 to 14: field lines ---------------------------------------------------------------------------------------------------

_last = {"x-last": b"v"}
for _name, _row, _line, _others in BAD_FIELDS:
    if _name == "space-before-colon-te":
        _peers = [deliver(b"hello", words="deliver by TE"), cut()]    # a proxy must strip that space (9112 5.1)
        case("field-" + _name, _row, resp(_line, FIVE), bad_gateway(), peers=_peers)
        continue
    if _others is DROP:
        _peers = [deliver(b"hello", has=_last, lacks=("x-a",), words="deliver without the line")]
    elif _others is REFUSE:
        _peers = [deliver(b"hello", has={**_last, "x-a": b"b"}, words="deliver without the space")]
    else:
        _peers = [deliver(b"hello", has={**_last, "x-a": _others}, lacks=("transfer-encoding",), words="deliver, repaired")]
    case("field-" + _name, _row, resp(_line + b"X-Last: v\r\n" + HELLO, b"hello"), bad_gateway(), peers=_peers)
for _name, _row, _line, _field, _value in GOOD_FIELDS:
    case("field-" + _name, _row, resp(_line + b"X-Last: v\r\n" + HELLO, b"hello"), deliver(b"hello", has={_field: _value, **_last}),
         peers=[bad_gateway()] if len(_field) > 200 else [])
case("field-space-before-colon-cl", 11, resp(b"Content-Length : 5\r\n", b"hello"), bad_gateway(), peers=[deliver(b"hello", has={"content-length": b"5"})])
case("field-fold-cl", 12, resp(b"Content-Length:\r\n 5\r\n", b"hello"), bad_gateway(), peers=[deliver(b"hello")])
case("field-fold-cl-digits", 12, resp(b"Content-Length: 5\r\n 0\r\n", b"hello"), bad_gateway())
case("field-fold-te", 12, resp(b"Transfer-Encoding:\r\n chunked\r\n", FIVE), bad_gateway(), peers=[deliver(b"hello")])
case("field-space-first", 12, resp(b" X-A: b\r\n" + HELLO, b"hello"), bad_gateway(), peers=[deliver(b"hello", lacks=("x-a",))])
case("field-lf-head", 13, b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", bad_gateway(), peers=[deliver(b"hello")])
case("field-lf-end-of-head", 13, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello", bad_gateway(), peers=[deliver(b"hello")])
case("field-crcrlf-end-of-head", 13, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\r\nhello\r\n\r\n", bad_gateway())
case("field-lf-splits-answer", 13, (resp(b"X-A: b\n\nHTTP/1.1 200 OK\r\n" + POISON_ECHO + b"Content-Length: 6\r\n", b"POISON"), 0.03, CLOSE),
     bad_gateway(), peers=[deliver(words="deliver until the close")])
case("field-cl-nul-name", 14, resp(b"Content-Length\x00: 5\r\n" + HELLO, b"hello"), bad_gateway(), peers=[deliver(b"hello")])
case("field-set-cookie-kept-apart", 14, resp(b"Set-Cookie: a=b, c\r\nX-A: b\r\nSet-Cookie: d=e\r\n" + HELLO, b"hello"),
     deliver(b"hello", has={"set-cookie": b"a=b, c, d=e"}))
case("head-20-KB", 14, resp(b"".join(b"X-%d: " % n + b"b" * 5000 + b"\r\n" for n in range(4)) + HELLO, b"hello"),
     deliver(b"hello", has={"x-0": b"b" * 5000, "x-3": b"b" * 5000}), peers=[bad_gateway()])
case("head-40-KB", 14, resp(b"".join(b"X-%d: " % n + b"b" * 5000 + b"\r\n" for n in range(8)) + HELLO, b"hello"), bad_gateway(),
     peers=[deliver(b"hello")])
case("head-one-field-of-100-KB", 14, resp(b"X-A: " + b"b" * 100000 + b"\r\n" + HELLO, b"hello"), bad_gateway(), peers=[deliver(b"hello")])
case("head-90-fields", 14, resp(b"".join(b"X-%d: b\r\n" % n for n in range(90)) + HELLO, b"hello"), deliver(b"hello", has={"x-89": b"b"}))
case("head-3000-fields", 14, resp(b"".join(b"X-%d: b\r\n" % n for n in range(3000)) + HELLO, b"hello"), bad_gateway(), deliver(b"hello"),
     discard=False)
case("head-never-ends", 14, (b"HTTP/1.1 200 OK\r\n",) + (b"X-A: " + b"b" * 8000 + b"\r\n", 0.01) * 12, bad_gateway(), peers=[nothing()])

# --- Row 18: Connection -------------------------------------------------------------------------------------------------------------


def _hop(name, fields, *, lacks=(), has=None, row=18, discard=False, **more):
    case("hop-" + name, row, resp(fields + b"X-Last: v\r\n" + HELLO, b"hello"), deliver(b"hello", lacks=tuple(lacks), has={**_last, **(has or {})}),
         discard=discard, **more)


_hop("named", b"Connection: X-A\r\nX-A: b\r\n", lacks=["x-a"])
_hop("named-case", b"X-A: b\r\nconnection: keep-alive,x-a\r\n", lacks=["x-a"])
_hop("named-two-lines", b"Connection: X-A\r\nX-A: b\r\nX-B: c\r\nConnection: X-B\r\n", lacks=["x-a", "x-b"])
_hop("names-cl", b"Connection: Content-Length\r\n")
_hop("names-te", b"Connection: Transfer-Encoding, X-A\r\nX-A: b\r\n", lacks=["x-a"])
_hop("known", b"Keep-Alive: timeout=100\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive\r\n", peers=[deliver(b"hello")],
     lacks=["proxy-connection"])
_hop("keep-alive-named", b"Connection: Keep-Alive\r\nKeep-Alive: timeout=77\r\n", peers=[deliver(b"hello", has={"keep-alive": lambda v: b"77" not in v})],
     lacks=["keep-alive"])
_hop("upgrade-offered", b"Upgrade: h2c\r\nConnection: Upgrade\r\n", lacks=["upgrade"], peers=[deliver(b"hello")])
_hop("close", b"Connection: close\r\n", discard=True)
_hop("close-and-named", b"Connection: close, X-A\r\nX-A: b\r\n", lacks=["x-a"], discard=True)
case("hop-names-te-chunked", 18, resp(b"Connection: Transfer-Encoding\r\n" + CHUNKED, FIVE), deliver(b"hello"))
case("hop-close-then-closes", 18, (resp(b"Connection: close\r\n" + HELLO, b"hello"), CLOSE), deliver(b"hello"))
case("hop-close-chunked", 18, (resp(b"Connection: close\r\n" + CHUNKED, FIVE), CLOSE), deliver(b"hello"))
case("hop-trailer-kept-alive", 18, resp(b"Connection: close\r\n" + CHUNKED, FIVE), deliver(b"hello"), discard=True)

# --- Row 19: 101 ----------------------------------------------------------------------------------------------------------------------

_101 = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
_WS = req(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
case("101-unasked", 19, _101, bad_gateway())
case("101-unasked-then-200", 19, (_101, 0.02, resp(HELLO, b"hello")), bad_gateway())
case("101-unasked-pipelined", 19, _101, bad_gateway(then=[ok(T2)]), bad_gateway(closed=True), send=req() + NEXT)
case("101-unasked-post", 19, _101, bad_gateway(), send=post(HELLO, b"hello"))
case("101-unasked-head", 19, _101, bad_gateway(body=b""), send=req(method=b"HEAD"))
case("101-to-http10", 19, _101, bad_gateway(), send=_WS.replace(b"HTTP/1.1", b"HTTP/1.0"), peers=[bad_gateway(400)])
case("101-to-h2c", 19, _101.replace(b"websocket", b"h2c"), bad_gateway(), send=req(b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
     peers=[Outcome("tunnel", (status(101),), ANY)])
case("101-to-upgrade-not-named", 19, _101, bad_gateway(), send=req(b"Upgrade: websocket\r\n"))
case("upgrade-answered-200", 19, resp(HELLO, b"hello"), deliver(b"hello", then=[ok(T2)]), send=(_WS, ANSWER, NEXT))
case("upgrade-answered-200-pipelined", 19, resp(HELLO, b"hello"), deliver(b"hello", then=[ok(T2)]), send=_WS + NEXT)
case("upgrade-answered-426", 19, resp(b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n" + HELLO, b"hello", line=b"HTTP/1.1 426 Upgrade Required"),
     deliver(b"hello", code=426), send=_WS)
case("upgrade-101-with-bytes", 19, _101 + b"first words", Outcome("tunnel", (status(101, tunnel=b"first words"),), ANY), send=_WS,
     peers=[deliver(words="forward without upgrade")], script_if="upgrade")
case("upgrade-101-then-close", 19, (_101 + b"bye", CLOSE), Outcome("tunnel", (status(101, tunnel=b"bye"),), ANY, True), send=_WS,
     peers=[deliver(words="forward without upgrade")], script_if="upgrade")
case("upgrade-101-then-close-later", 19, (_101 + b"bye", 0.03, CLOSE), Outcome("tunnel", (status(101, tunnel=b"bye"),), ANY, True), send=_WS,
     peers=[deliver(words="forward without upgrade")], script_if="upgrade")
case("upgrade-103-then-101", 19, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + _101 + b"hi",
     Outcome("tunnel", (status(101, tunnel=b"hi"),), ANY), send=_WS, peers=[deliver(words="forward without upgrade")], script_if="upgrade")
case("upgrade-101-bad-head", 19, _101.replace(b"Connection", b"X-A : b\r\nConnection"), bad_gateway(), send=_WS,
     peers=[Outcome("tunnel", (status(101),), ANY), deliver(words="forward without upgrade")], script_if="upgrade")

# --- Row 20: answers before the request is whole -----------------------------------------------------------------------------------------

_half = (post(b"Content-Length: 10\r\n", b"hello"), 0.05, b"world")
case("early-answer", 20, (HEAD, resp(HELLO, b"hello")), answered(Answer((200,), body=b"hello")), send=_half)
case("early-answer-close", 20, (HEAD, resp(HELLO + b"Connection: close\r\n", b"hello"), CLOSE), answered(Answer((200,), body=b"hello")), send=_half)
case("early-answer-then-body-read", 20, (HEAD, resp(HELLO, b"hello"), BODY), answered(Answer((200,), body=b"hello")), send=_half)
case("early-close", 20, (HEAD, CLOSE), answered(status(502, 504)), send=_half)
case("early-bad-answer", 20, (HEAD, resp(b"Content-Length: x\r\n")), answered(status(502, 504)), send=_half)

# --- Row 23: truncated -------------------------------------------------------------------------------------------------------------------

for _name, _end in [("close", CLOSE), ("reset", RESET)]:
    case(f"short-length-{_name}", 23, (resp(b"Content-Length: 10\r\n", b"hello"), 0.03, _end), cut(b"helloworld"), bad_gateway())
    case(f"short-chunk-data-{_name}", 23, (resp(CHUNKED, b"a\r\nhello"), 0.03, _end), cut(b"helloworld"), bad_gateway())
    case(f"short-chunk-end-{_name}", 23, (resp(CHUNKED, b"5\r\nhello\r\n"), 0.03, _end), cut(b"hello"), bad_gateway())
    case(f"short-last-chunk-{_name}", 23, (resp(CHUNKED, b"5\r\nhello\r\n0\r\n"), 0.03, _end), cut(b"hello"), bad_gateway())
    case(f"short-trailer-{_name}", 23, (resp(CHUNKED, b"5\r\nhello\r\n0\r\nX-A: b\r\n"), 0.03, _end), cut(b"hello"), bad_gateway())
    case(f"short-head-{_name}", 23, (b"HTTP/1.1 200 OK\r\nContent-Le", 0.03, _end), bad_gateway())
    case(f"short-head-no-blank-line-{_name}", 23, (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", 0.03, _end), bad_gateway())
    case(f"short-status-line-{_name}", 23, (b"HTTP/1.1 200", 0.03, _end), bad_gateway())
    case(f"short-nothing-{_name}", 23, (_end,), bad_gateway())
    case(f"short-to-http10-client-{_name}", 23, (resp(CHUNKED, b"5\r\nhello\r\n"), 0.03, _end),
         Outcome("cut by a reset", (Answer((200,), cut=True, body=b"hello", lacks=("transfer-encoding",)),), ANY, True), bad_gateway(),
         send=OLD, peers=[deliver((b"hello", b""), closed=True, lacks=("transfer-encoding",), words="close (HTTP/1.0 knows no better)")])
    case(f"short-large-{_name}", 23, (resp(b"Content-Length: 900000\r\n", LARGE), 0.05, _end), cut(LARGE + b"x" * 580000), bad_gateway())
case("short-length-at-once", 23, (resp(b"Content-Length: 10\r\n", b"hello"), CLOSE), cut(b"helloworld"), bad_gateway())
case("short-chunk-at-once", 23, (resp(CHUNKED, b"5\r\nhello\r\n"), CLOSE), cut(b"hello"), bad_gateway())
case("short-no-body-at-all", 23, (resp(b"Content-Length: 10\r\n"), 0.03, CLOSE), cut(b"helloworld"), bad_gateway())
case("short-close-delimited-reset", 23, (resp(b"", b"hello"), 0.03, RESET), cut(b"hello"), bad_gateway())
case("short-pipelined", 23, (resp(b"Content-Length: 10\r\n", b"hello"), 0.03, CLOSE), cut(b"helloworld"), bad_gateway(then=[ok(T2)]),
     bad_gateway(closed=True), send=req() + NEXT)

# --- Row 24: bytes that nobody asked for ----------------------------------------------------------------------------------------------------

_whole = resp(HELLO, b"hello")
for _name, _bytes in [("answer", POISON), ("garbage", b"garbage"), ("crlf", b"\r\n"), ("one-byte", b"x"), ("half-answer", POISON[:20]),
                      ("interim", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), ("many-answers", POISON * 20), ("large", b"x" * 200000)]:
    case(f"extra-{_name}", 24, _whole + _bytes, deliver(b"hello"), discard=True)
    case(f"idle-{_name}", 24, (_whole, 0.03, _bytes), deliver(b"hello"), discard=True)
case("idle-408", 24, (_whole, 0.03, resp(b"Content-Length: 0\r\nConnection: close\r\n", line=b"HTTP/1.1 408 Request Timeout"), CLOSE), deliver(b"hello"))
case("idle-fin", 24, (_whole, 0.03, CLOSE), deliver(b"hello"))
case("idle-reset", 24, (_whole, 0.03, RESET), deliver(b"hello"))
for _name, _bytes in [("length", _whole), ("chunked", resp(CHUNKED, FIVE))]:
    case(f"fin-with-{_name}", 24, (_bytes, CLOSE), deliver(b"hello"))
    case(f"fin-with-{_name}-pipelined", 24, (_bytes, CLOSE), deliver(b"hello", then=[ok(T2)]), send=req() + NEXT)
    case(f"fin-with-{_name}-pipelined-post", 24, (_bytes, CLOSE), deliver(b"hello", then=[ok(T2)]), send=req() + post(HELLO, b"hello", target=T2),
         peers=[deliver(b"hello", then=[status(502, 503)]), deliver(b"hello", closed=True)])
case("fin-with-204", 24, (resp(line=b"HTTP/1.1 204 No Content"), CLOSE), deliver(b"", code=204, then=[ok(T2)]), send=req() + NEXT)
case("fin-with-head", 24, (resp(HELLO), CLOSE), deliver(b"", then=[ok(T2)]), send=req(method=b"HEAD") + NEXT)
case("extra-after-chunked", 24, resp(CHUNKED, FIVE + POISON), deliver(b"hello"), discard=True)
case("extra-after-chunked-crlf", 24, resp(CHUNKED, FIVE + b"\r\n"), deliver(b"hello"), discard=True)
case("extra-after-204", 24, resp(line=b"HTTP/1.1 204 No Content") + POISON, deliver(b"", code=204), discard=True)
case("extra-after-304", 24, resp(b'ETag: "a"\r\n', line=b"HTTP/1.1 304 Not Modified") + POISON, deliver(b"", code=304), discard=True)
case("extra-after-empty", 24, resp(b"Content-Length: 0\r\n") + POISON, deliver(b""), discard=True)
case("extra-after-head", 24, resp(HELLO) + POISON, deliver(b""), send=req(method=b"HEAD"), discard=True)
case("extra-after-trailer", 24, resp(CHUNKED, b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n" + POISON), deliver(b"hello"), discard=True)
case("extra-pipelined", 24, _whole + POISON, deliver(b"hello", then=[ok(T2)]), send=req() + NEXT, discard=True)
case("extra-pipelined-three", 24, _whole + POISON * 2, deliver(b"hello", then=[ok(T2), ok(T + b"?3")]), send=req() + NEXT + req(target=T + b"?3"),
     once=True, discard=True)
case("extra-to-post", 24, _whole + POISON, deliver(b"hello"), send=post(HELLO, b"hello"), discard=True)
case("extra-then-close", 24, (_whole + POISON, CLOSE), deliver(b"hello"))
case("extra-slow-client-next", 24, (_whole, 0.005, POISON), deliver(b"hello", then=[ok(T2)]), send=(req(), ANSWER, 0.03, NEXT), discard=True)
case("extra-large-body", 24, resp(length(LARGE), LARGE + POISON), deliver(LARGE), discard=True)

# --- Row 25: interim answers --------------------------------------------------------------------------------------------------------------

_103 = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
_100 = b"HTTP/1.1 100 Continue\r\n\r\n"
_either = {"interim": lambda codes: set(codes) <= {100, 102, 199}}
case("103", 25, _103 + _whole, deliver(b"hello", interim=(103,)))
case("103-later", 25, (_103, 0.05, _whole), deliver(b"hello", interim=(103,)))
case("103-three", 25, _103 * 3 + _whole, deliver(b"hello", interim=(103,) * 3))
case("103-to-head", 25, _103 + resp(HELLO), deliver(b"", interim=(103,)), send=req(method=b"HEAD"))
case("103-to-post", 25, _103 + _whole, deliver(b"hello", interim=(103,)), send=post(HELLO, b"hello"))
case("103-then-chunked", 25, _103 + resp(CHUNKED, FIVE), deliver(b"hello", interim=(103,)))
case("103-then-204", 25, _103 + resp(line=b"HTTP/1.1 204 No Content"), deliver(b"", code=204, interim=(103,)))
case("103-to-http10-client", 25, _103 + _whole, deliver(b"hello", closed=True, interim=()), send=OLD)
case("100-to-http10-client", 25, _100 + _whole, deliver(b"hello", closed=True, interim=()), send=OLD)
case("100-unasked", 25, _100 + _whole, deliver(b"hello", **_either))
case("102", 25, b"HTTP/1.1 102 Processing\r\n\r\n" + _whole, deliver(b"hello", **_either))
case("199", 25, b"HTTP/1.1 199 Whatever\r\n\r\n" + _whole, deliver(b"hello", **_either))
case("100-then-103", 25, _100 + _103 + _whole, deliver(b"hello", interim=lambda codes: codes in ((103,), (100, 103))))
case("103-pipelined", 25, _103 + _whole, deliver(b"hello", interim=(103,), then=[ok(T2)]), send=req() + NEXT)
case("103-hop-by-hop", 25, b"HTTP/1.1 103 Early Hints\r\nConnection: X-A\r\nX-A: b\r\n\r\n" + _whole, deliver(b"hello", interim=(103,)))
case("103-with-length", 25, b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" + _whole, bad_gateway())
case("103-with-length-no-body", 25, b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + _whole, deliver(b"hello"), bad_gateway(), discard=False)
case("103-with-te", 25, b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + FIVE + _whole, bad_gateway())
case("103-bad-field", 25, b"HTTP/1.1 103 Early Hints\r\nX-A : b\r\n\r\n" + _whole, bad_gateway(), peers=[deliver(b"hello")])
case("103-bad-lf", 25, b"HTTP/1.1 103 Early Hints\n\n" + _whole, bad_gateway(), peers=[deliver(b"hello")])
case("103-then-bad", 25, _103 + resp(b"Content-Length: x\r\n"), bad_gateway())
case("103-then-close", 25, (_103, 0.03, CLOSE), bad_gateway())
case("100-then-close", 25, (_100, 0.03, CLOSE), bad_gateway())
case("103-then-garbage", 25, _103 + b"garbage\r\n\r\n", bad_gateway())
case("103-many", 25, _103 * 20 + _whole, deliver(b"hello"), bad_gateway(), discard=False)
case("100-many", 25, _100 * 20 + _whole, deliver(b"hello"), bad_gateway(), discard=False)
case("103-too-many", 25, _103 * 5000 + _whole, bad_gateway(), peers=[deliver(b"hello")])
case("103-after-final", 25, _whole + _103, deliver(b"hello", interim=()), discard=True)
case("100-after-expect", 25, (HEAD, _100, BODY, _whole), deliver(b"hello"), send=(post(b"Expect: 100-continue\r\n" + HELLO, b""), 0.05, b"hello"),
     script_if="expect", peers=[deliver(words="forward without Expect")])

# --- Row 26: answers without a body -------------------------------------------------------------------------------------------------------

_HEAD = req(method=b"HEAD")
case("head-length", 26, resp(HELLO), deliver(b"", has={"content-length": b"5"}), send=_HEAD)
case("head-chunked", 26, resp(CHUNKED), deliver(b""), send=_HEAD)
case("head-nothing", 26, resp(b""), deliver(b""), send=_HEAD)
case("head-with-body", 26, resp(HELLO, b"hello"), deliver(b""), send=_HEAD, discard=True)
case("head-with-poison", 26, resp(length(POISON), POISON), deliver(b""), send=_HEAD, discard=True)
case("head-with-chunks", 26, resp(CHUNKED, FIVE), deliver(b""), send=_HEAD, discard=True)
case("head-with-body-later", 26, (resp(HELLO), 0.03, b"hello"), deliver(b""), send=_HEAD, discard=True)
case("head-404", 26, resp(HELLO, line=b"HTTP/1.1 404 Not Found"), deliver(b"", code=404), send=_HEAD)
case("head-pipelined", 26, resp(HELLO), deliver(b"", then=[ok(T2)]), send=_HEAD + NEXT)
case("head-to-http10-client", 26, resp(HELLO), deliver(b"", closed=True), send=req(method=b"HEAD", version=b"HTTP/1.0"))
case("head-chunked-to-http10-client", 26, resp(CHUNKED), deliver(b"", closed=True, lacks=("transfer-encoding",)),
     send=req(method=b"HEAD", version=b"HTTP/1.0"))
case("head-bad-gateway", 26, b"garbage\r\n\r\n", bad_gateway(body=b""), send=_HEAD)
for _code, _line in [(204, b"HTTP/1.1 204 No Content"), (304, b"HTTP/1.1 304 Not Modified")]:
    case(f"{_code}-plain", 26, resp(line=_line), deliver(b"", code=_code))
    case(f"{_code}-body", 26, resp(b"", b"hello", line=_line), deliver(b"", code=_code), discard=True)
    case(f"{_code}-length-body", 26, resp(HELLO, b"hello", line=_line), deliver(b"", code=_code), peers=[bad_gateway()], discard=True)
    case(f"{_code}-length-poison", 26, resp(length(POISON), POISON, line=_line), deliver(b"", code=_code), peers=[bad_gateway()], discard=True)
    case(f"{_code}-chunks", 26, resp(CHUNKED, FIVE, line=_line), deliver(b"", code=_code), bad_gateway(), discard=True)
    case(f"{_code}-pipelined", 26, resp(line=_line), deliver(b"", code=_code, then=[ok(T2)]), send=req() + NEXT)
case("204-length", 26, resp(HELLO, line=b"HTTP/1.1 204 No Content"), deliver(b"", code=204, lacks=("content-length",)), bad_gateway(), discard=False,
     peers=[deliver(b"", code=204, has={"content-length": ANY}, words="deliver 204 as it came")])
case("204-chunked", 26, resp(CHUNKED, line=b"HTTP/1.1 204 No Content"), deliver(b"", code=204, lacks=("transfer-encoding",)), bad_gateway(),
     discard=False)
case("304-length", 26, resp(HELLO, line=b"HTTP/1.1 304 Not Modified"), deliver(b"", code=304))
case("304-chunked", 26, resp(CHUNKED, line=b"HTTP/1.1 304 Not Modified"), deliver(b"", code=304), bad_gateway(), discard=False)
case("304-etag", 26, resp(b'ETag: "a"\r\nX-Last: v\r\n', line=b"HTTP/1.1 304 Not Modified"), deliver(b"", code=304, has={"etag": b'"a"', **_last}))
case("205-length-zero", 26, resp(b"Content-Length: 0\r\n", line=b"HTTP/1.1 205 Reset Content"), deliver(b"", code=205))
case("205-body", 26, resp(HELLO, b"hello", line=b"HTTP/1.1 205 Reset Content"), deliver(b"hello", code=205), bad_gateway(), discard=False)

# --- Row 27: status lines -----------------------------------------------------------------------------------------------------------------


def _line(name, line, *house, peers=(), **more):
    case("line-" + name, 27, line + b"\r\n" + HELLO + b"\r\nhello", *(house or (bad_gateway(),)), peers=peers, **more)


_mended = [deliver(b"hello")]
_line("two-digits", b"HTTP/1.1 20 OK")
_line("four-digits", b"HTTP/1.1 2000 OK")
_line("letters", b"HTTP/1.1 abc OK")
_line("zero", b"HTTP/1.1 000 OK")
_line("099", b"HTTP/1.1 099 OK")
_line("plus", b"HTTP/1.1 +20 OK")
_line("minus", b"HTTP/1.1 -20 OK")
_line("spaced-digits", b"HTTP/1.1 2 0 0 OK")
_line("no-space-before-reason", b"HTTP/1.1 200OK")
_line("two-spaces", b"HTTP/1.1  200 OK", peers=_mended)
_line("tab", b"HTTP/1.1\t200 OK", peers=_mended)
_line("space-before", b" HTTP/1.1 200 OK")
_line("no-status", b"HTTP/1.1")
_line("no-version", b"200 OK")
_line("version-2.0", b"HTTP/2.0 200 OK", bad_gateway())
_line("version-2", b"HTTP/2 200 OK", bad_gateway())
_line("version-0.9", b"HTTP/0.9 200 OK", bad_gateway())
_line("version-lower-case", b"http/1.1 200 OK")
_line("version-zeros", b"HTTP/01.1 200 OK")
_line("version-two-digits", b"HTTP/1.10 200 OK")
_line("version-comma", b"HTTP/1,1 200 OK")
_line("version-only-major", b"HTTP/1 200 OK")
_line("version-1.2", b"HTTP/1.2 200 OK", deliver(b"hello"), bad_gateway(), discard=False)
_line("icy", b"ICY 200 OK")
_line("ssh", b"SSH-2.0-OpenSSH_9.2")
_line("request", b"GET / HTTP/1.1")
_line("cr-in-reason", b"HTTP/1.1 200 O\rK", peers=[deliver(b"hello")])
_line("nul-in-reason", b"HTTP/1.1 200 O\x00K", peers=[deliver(b"hello")])
_line("ctl-in-reason", b"HTTP/1.1 200 O\x01K", peers=_mended)
_line("nul-in-status", b"HTTP/1.1 2\x0000 OK")
_line("lf-before-reason", b"HTTP/1.1 200\nOK")
_line("no-reason", b"HTTP/1.1 200 ", deliver(b"hello"))
_line("no-reason-no-space", b"HTTP/1.1 200", deliver(b"hello"), bad_gateway(), discard=False)
_line("reason-obs-text", b"HTTP/1.1 200 Tr\xe8s bien", deliver(b"hello"))
_line("reason-long", b"HTTP/1.1 200 " + b"very " * 300 + b"well", deliver(b"hello"))
_line("reason-huge", b"HTTP/1.1 200 " + b"x" * 100000, peers=[deliver(b"hello")])
for _code in (299, 404, 500, 503, 599):
    _line(str(_code), b"HTTP/1.1 %d Whatever" % _code, deliver(b"hello", code=_code))
for _code in (600, 999):
    _line(str(_code), b"HTTP/1.1 %d Whatever" % _code, deliver(b"hello", code=_code), bad_gateway(), discard=False)
case("line-crlf-before", 27, b"\r\n" + _whole, bad_gateway(), deliver(b"hello"), discard=False)
case("line-lf-before", 27, b"\n" + _whole, bad_gateway(), peers=[deliver(b"hello")])
case("http09", 27, (b"hello world", CLOSE), bad_gateway())
case("http09-html", 27, (b"<html>\r\n<body>\r\n\r\nhello</body>\r\n", CLOSE), bad_gateway())
case("http09-open", 27, b"hello world\r\n\r\n", bad_gateway())
case("binary", 27, b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n", bad_gateway())
case("h2-frames", 27, (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00\x03\x00\x00\x00\x80" * 3, 0.03, CLOSE), bad_gateway())
case("nothing-but-crlf", 27, (b"\r\n\r\n\r\n", 0.03, CLOSE), bad_gateway())
case("line-in-pieces", 27, (b"HT", 0.02, b"TP/1.", 0.02, b"1 2", 0.02, b"00 O", 0.02, b"K\r", 0.02, b"\n" + HELLO + b"\r\nhello"), deliver(b"hello"))

# --- Row 28: retries ------------------------------------------------------------------------------------------------------------------------

_retried = [deliver(words="deliver a second try's"), bad_gateway()]
for _name, _end in [("close", CLOSE), ("reset", RESET)]:
    case(f"retry-post-{_name}", 28, (_end,), bad_gateway(), send=post(HELLO, b"hello"), warm=True)
    case(f"retry-post-once-{_name}", 28, (_end,), bad_gateway(), send=post(HELLO, b"hello"), warm=True, once=True)
    case(f"retry-post-chunked-{_name}", 28, (_end,), bad_gateway(), send=post(CHUNKED, FIVE), warm=True, once=True)
    case(f"retry-get-{_name}", 28, (_end,), bad_gateway(), warm=True)
    case(f"retry-get-once-{_name}", 28, (_end,), *_retried, warm=True, once=True)
    case(f"retry-put-once-{_name}", 28, (_end,), *_retried, send=req(HELLO, b"hello", method=b"PUT"), warm=True, once=True)
    case(f"retry-patch-once-{_name}", 28, (_end,), bad_gateway(), send=req(HELLO, b"hello", method=b"PATCH"), warm=True, once=True)
    case(f"retry-get-half-head-{_name}", 28, (b"HTTP/1.1 200 OK\r\nContent-", 0.03, _end), bad_gateway(), warm=True, once=True, peers=_retried)
    case(f"retry-post-half-head-{_name}", 28, (b"HTTP/1.1 200 OK\r\nContent-", 0.03, _end), bad_gateway(), send=post(HELLO, b"hello"), warm=True, once=True)
case("retry-get-half-body", 28, (resp(b"Content-Length: 10\r\n", b"hello"), 0.03, CLOSE), cut(b"helloworld"), bad_gateway(), warm=True, once=True)
case("retry-after-interim", 28, (_103, 0.03, CLOSE), bad_gateway(), warm=True, once=True, send=post(HELLO, b"hello"))

# --- Rows 31 and 32 ---------------------------------------------------------------------------------------------------------------------------

case("expect-417-from-origin", 31, (HEAD, resp(b"Content-Length: 0\r\n", line=b"HTTP/1.1 417 Expectation Failed"), BODY),
     answered(status(417)), send=(post(b"Expect: 100-continue\r\n" + HELLO, b""), 0.05, b"hello"))
case("date-kept", 32, resp(b"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n" + HELLO, b"hello"),
     deliver(b"hello", house_has={"date": b"Tue, 15 Nov 1994 08:12:31 GMT"}))
case("date-added", 32, resp(HELLO, b"hello"), deliver(b"hello", house_has={"date": lambda v: v.endswith(b" GMT") and len(v) == 29}))
case("date-added-chunked", 32, resp(CHUNKED, FIVE), deliver(b"hello", house_has={"date": lambda v: v.endswith(b" GMT") and len(v) == 29}))
case("via-kept", 32, resp(b"Via: 1.1 inner\r\n" + HELLO, b"hello"), deliver(b"hello", has={"via": lambda v: v.startswith(b"1.1 inner")}))
case("fields-kept", 32, resp(b"Server: S/1\r\nETag: \"a\"\r\nCache-Control: no-store\r\nX-A: b\r\n" + HELLO, b"hello"),
     deliver(b"hello", has={"etag": b'"a"', "cache-control": b"no-store", "x-a": b"b"}, house_has={"server": b"S/1"}))
