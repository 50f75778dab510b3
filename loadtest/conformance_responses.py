"""What origins send: the response side of the conformance recorder. The words are those of conformance_requests."""
from conformance_requests import (ANSWER, ANY, BODY, CHUNKED, CLOSE, HEAD, RESET, SHUT, TUNNEL, EVIL, H, NEXT, S, T, T2,
                                  Answer, Case, Outcome, Seen, length, post, req)

CASES = []


def deliver(body=ANY, status=200, closed=ANY, then=(), words="", **more):
    """The answer comes through whole."""
    return Outcome(words or f"deliver {status}", (Answer((status,), body=body, **more),) + tuple(then), ANY, closed)


def bad_gateway(*status, then=()):
    return Outcome("502" if not status else "/".join(map(str, status)), (Answer(status or (502, 504)),) + tuple(then), ANY)


def cut(**more):
    """The head went out, the body ends visibly unfinished."""
    return Outcome("cut", (Answer((200,), cut=True, **more),), ANY, True)


def case(name, row, script, *house, peers=(), send=req(), **more):
    script = script if isinstance(script, tuple) else (script,)
    CASES.append(Case("response", name, row, send if isinstance(send, tuple) else (send,), house, tuple(peers), script, **more))


def resp(fields=b"", body=b"", line=b"HTTP/1.1 200 OK"):
    return line + b"\r\n" + fields + b"\r\n" + body


POISON = resp(b"X-Echo: GET /POISON\r\nContent-Length: 6\r\n", b"POISON")

case("plain-length", 22, resp(length(b"hello"), b"hello"), deliver(b"hello"))
case("plain-chunked", 5, resp(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), deliver(b"hello"))
case("length-plus", 22, resp(b"Content-Length: +5\r\n", b"hello"), bad_gateway())
case("length-two-different", 22, resp(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"), bad_gateway())
case("truncated-length", 23, (resp(b"Content-Length: 10\r\n", b"hello"), CLOSE), cut(), bad_gateway())
case("truncated-chunked", 23, (resp(CHUNKED, b"5\r\nhello\r\n"), CLOSE), cut(), bad_gateway())
case("extra-response", 24, resp(length(b"hello"), b"hello" + POISON), deliver(b"hello"), discard=True)
case("idle-unsolicited", 24, (resp(length(b"hello"), b"hello"), 0.03, POISON), deliver(b"hello"), discard=True)
case("head-with-body", 26, resp(length(POISON), POISON), deliver(b""), send=req(method=b"HEAD"), discard=True)
case("status-two-digits", 27, resp(length(b"hello"), b"hello", line=b"HTTP/1.1 20 OK"), bad_gateway())
