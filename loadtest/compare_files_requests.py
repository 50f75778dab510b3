"""The requests of compare_files.py, and why pilb-origin's answers to some of them are not those of nginx or of Apache.

A request names a file of the document root that compare_files.py makes. In a field's value {etag}, {weak}, {modified}, {before},
{after}, {rfc850} and {asctime} stand for the server's own validators of that file (of its coded form, if coded=True).
"""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Request:
    name: str
    path: str
    fields: tuple = ()
    method: str = "GET"
    version: str = "HTTP/1.1"
    body: bytes = b""
    coded: bool = False         # the validators are those of the answer to Accept-Encoding: gzip
    show: tuple = ()            # fields of the answer that are compared too, by their presence


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why pilb answers as it does. If it ever answers otherwise, this reason is no longer one."""
    pilb: str
    why: str


T, B, E = "/hello.txt", "/data.bin", "/empty.txt"
FIELDS_OF_304 = ("Date", "ETag", "Last-Modified", "Content-Length", "Content-Type", "Content-Range")


def get(name, path, *fields, **more):
    return Request(name, path, tuple(tuple(field.split(": ", 1)) for field in fields), **more)


def head(name, path, *fields, **more):
    return get(name, path, *fields, method="HEAD", **more)


PLAIN = [
    get("GET of a text", T),
    head("HEAD of a text", T),
    get("GET of 100 KB", B),
    get("GET of an empty file", E),
    get("a missing file", "/missing.txt"),
    get("a folder with its index", "/with/"),
    get("a folder without a slash", "/with"),
    get("a folder without a slash, with a query", "/with?a=b"),
    get("a folder without an index", "/without/"),
    get("a file with a slash", "/hello.txt/"),
    get("POST to a file", T, method="POST", body=b"a=b"),
    get("PUT of a file", T, method="PUT", body=b"a=b"),
    get("DELETE of a file", T, method="DELETE"),
    get("OPTIONS of a file", T, method="OPTIONS"),
]

NONE_MATCH = [
    get("If-None-Match: same", T, "If-None-Match: {etag}"),
    get("If-None-Match: the fields of a 304", T, "If-None-Match: {etag}", show=FIELDS_OF_304),
    head("If-None-Match: same, HEAD", T, "If-None-Match: {etag}"),
    get("If-None-Match: weak", T, "If-None-Match: W/{weak}"),
    get("If-None-Match: other", T, 'If-None-Match: "x"'),
    get("If-None-Match: list with it", T, 'If-None-Match: "x", W/"y",{etag}'),
    get("If-None-Match: list without it", T, 'If-None-Match: "x", W/"y"'),
    get("If-None-Match: list with a comma in a tag", T, 'If-None-Match: "x,y", {etag}'),
    get("If-None-Match: list with empty elements", T, "If-None-Match: , ,{etag} ,"),
    get("If-None-Match: two lines", T, 'If-None-Match: "x"', "If-None-Match: {etag}"),
    get("If-None-Match: *", T, "If-None-Match: *"),
    get("If-None-Match: without quotes", T, "If-None-Match: x"),
    get("If-None-Match: same, of an empty file", E, "If-None-Match: {etag}"),
    get("If-None-Match: other, date same", T, 'If-None-Match: "x"', "If-Modified-Since: {modified}"),
    get("If-None-Match: same, date before", T, "If-None-Match: {etag}", "If-Modified-Since: {before}"),
    get("If-None-Match: * of a missing file", "/missing.txt", "If-None-Match: *"),
    get("If-None-Match: same, POST", T, "If-None-Match: {etag}", method="POST", body=b"a=b"),
]

MATCH = [
    get("If-Match: same", T, "If-Match: {etag}"),
    get("If-Match: weak", T, "If-Match: W/{weak}"),
    get("If-Match: other", T, 'If-Match: "x"'),
    get("If-Match: list with it", T, 'If-Match: "x", {etag}'),
    get("If-Match: *", T, "If-Match: *"),
    get("If-Match: * of a missing file", "/missing.txt", "If-Match: *"),
    get("If-Match: other, PUT", T, 'If-Match: "x"', method="PUT", body=b"a=b"),
    get("If-Match: same, If-None-Match: same", T, "If-Match: {etag}", "If-None-Match: {etag}"),
    get("If-Match: other, If-None-Match: same", T, 'If-Match: "x"', "If-None-Match: {etag}"),
    get("If-Match: same, If-Unmodified-Since: before", T, "If-Match: {etag}", "If-Unmodified-Since: {before}"),
    get("If-Match: other, of a folder without a slash", "/with", 'If-Match: "x"'),
]

DATES = [
    get("If-Modified-Since: same", T, "If-Modified-Since: {modified}"),
    get("If-Modified-Since: same, RFC 850 format", T, "If-Modified-Since: {rfc850}"),
    get("If-Modified-Since: same, asctime format", T, "If-Modified-Since: {asctime}"),
    get("If-Modified-Since: before", T, "If-Modified-Since: {before}"),
    get("If-Modified-Since: after", T, "If-Modified-Since: {after}"),
    get("If-Modified-Since: no date", T, "If-Modified-Since: yesterday"),
    get("If-Modified-Since: 31 February", T, "If-Modified-Since: Sat, 31 Feb 2026 00:00:00 GMT"),
    head("If-Modified-Since: same, HEAD", T, "If-Modified-Since: {modified}"),
    get("If-Modified-Since: same, POST", T, "If-Modified-Since: {modified}", method="POST", body=b"a=b"),
    get("If-Unmodified-Since: same", T, "If-Unmodified-Since: {modified}"),
    get("If-Unmodified-Since: before", T, "If-Unmodified-Since: {before}"),
    get("If-Unmodified-Since: after", T, "If-Unmodified-Since: {after}"),
    get("If-Unmodified-Since: no date", T, "If-Unmodified-Since: yesterday"),
    get("If-Unmodified-Since: before, If-None-Match: same", T, "If-Unmodified-Since: {before}", "If-None-Match: {etag}"),
]

RANGES = [
    get("range: first byte", B, "Range: bytes=0-0"),
    get("range: some bytes", B, "Range: bytes=500-999"),
    get("range: open", B, "Range: bytes=102000-"),
    get("range: all, open", B, "Range: bytes=0-"),
    get("range: past the end", B, "Range: bytes=102000-999999"),
    get("range: last byte", B, "Range: bytes=-1"),
    get("range: suffix longer than the file", B, "Range: bytes=-999999"),
    get("range: suffix of nothing", B, "Range: bytes=-0"),
    get("range: beyond the end", B, "Range: bytes=102400-"),
    get("range: last before first", B, "Range: bytes=9-5"),
    get("range: no number", B, "Range: bytes=a-b"),
    get("range: a dash alone", B, "Range: bytes=-"),
    get("range: nothing", B, "Range: bytes="),
    get("range: no unit", B, "Range: 0-9"),
    get("range: another unit", B, "Range: lines=0-9"),
    get("range: the unit in capitals", B, "Range: BYTES=0-9"),
    get("range: spaces inside", B, "Range: bytes=0 - 9"),
    get("range: end over 64 bits", B, "Range: bytes=102000-99999999999999999999999999"),
    get("range: start over 64 bits", B, "Range: bytes=99999999999999999999999999-"),
    get("range: suffix over 64 bits", B, "Range: bytes=-99999999999999999999999999"),
    get("range: two lines", B, "Range: bytes=0-9", "Range: bytes=20-29"),
    get("range: of an empty file", E, "Range: bytes=0-"),
    get("range: first byte of an empty file", E, "Range: bytes=0-0"),
    get("range: suffix of an empty file", E, "Range: bytes=-5"),
    get("range: of a missing file", "/missing.txt", "Range: bytes=0-9"),
    get("range: of a folder's index", "/with/", "Range: bytes=0-9"),
    get("range: POST", B, "Range: bytes=0-9", method="POST", body=b"a=b"),
    get("range: HTTP/1.0", B, "Range: bytes=0-9", version="HTTP/1.0"),
    head("range: HEAD", B, "Range: bytes=0-9"),
    head("range: beyond the end, HEAD", B, "Range: bytes=102400-"),
]

SEVERAL = [
    get("ranges: two", B, "Range: bytes=0-9,20-29"),
    get("ranges: two, spaces and empty elements", B, "Range: bytes= 0-9 ,, 20-29 ,"),
    get("ranges: backwards", B, "Range: bytes=1000-1009,0-9"),
    get("ranges: first and last byte", B, "Range: bytes=0-0,-1"),
    get("ranges: overlapping", B, "Range: bytes=0-99,50-149"),
    get("ranges: adjacent", B, "Range: bytes=0-9,10-19"),
    get("ranges: one of two beyond the end", B, "Range: bytes=0-9,200000-"),
    get("ranges: both beyond the end", B, "Range: bytes=200000-,300000-300009"),
    get("ranges: one of two malformed", B, "Range: bytes=0-9,x"),
    get("ranges: all bytes, twice", B, "Range: bytes=0-,0-"),
    get("ranges: sixteen", B, "Range: bytes=" + ",".join(f"{at * 100}-{at * 100 + 9}" for at in range(16))),
    get("ranges: five hundred", B, "Range: bytes=" + ",".join(f"{at * 100}-{at * 100}" for at in range(500))),
    get("ranges: five hundred of the same", B, "Range: bytes=" + ",".join(["0-9"] * 500)),
]

WITH_CONDITIONS = [
    get("If-Range: same tag", B, "Range: bytes=0-9", "If-Range: {etag}"),
    get("If-Range: weak tag", B, "Range: bytes=0-9", "If-Range: W/{weak}"),
    get("If-Range: other tag", B, "Range: bytes=0-9", 'If-Range: "x"'),
    get("If-Range: same date", B, "Range: bytes=0-9", "If-Range: {modified}"),
    get("If-Range: same date, RFC 850 format", B, "Range: bytes=0-9", "If-Range: {rfc850}"),
    get("If-Range: date before", B, "Range: bytes=0-9", "If-Range: {before}"),
    get("If-Range: date after", B, "Range: bytes=0-9", "If-Range: {after}"),
    get("If-Range: neither tag nor date", B, "Range: bytes=0-9", "If-Range: x"),
    get("If-Range: same tag, no Range", B, "If-Range: {etag}"),
    get("If-Range: other tag, beyond the end", B, "Range: bytes=200000-", 'If-Range: "x"'),
    get("If-Range: same tag, beyond the end", B, "Range: bytes=200000-", "If-Range: {etag}"),
    get("If-Range: same tag, two ranges", B, "Range: bytes=0-9,20-29", "If-Range: {etag}"),
    get("range, If-None-Match: same", B, "Range: bytes=0-9", "If-None-Match: {etag}"),
    get("range, If-None-Match: other", B, "Range: bytes=0-9", 'If-None-Match: "x"'),
    get("range, If-Modified-Since: same", B, "Range: bytes=0-9", "If-Modified-Since: {modified}"),
    get("range, If-Match: same", B, "Range: bytes=0-9", "If-Match: {etag}"),
    get("range, If-Match: other", B, "Range: bytes=0-9", 'If-Match: "x"'),
    get("range, If-Unmodified-Since: same", B, "Range: bytes=0-9", "If-Unmodified-Since: {modified}"),
    get("range, If-Unmodified-Since: before", B, "Range: bytes=0-9", "If-Unmodified-Since: {before}"),
    get("range beyond the end, If-None-Match: same", B, "Range: bytes=200000-", "If-None-Match: {etag}"),
    get("range: the fields of a 206", B, "Range: bytes=0-9", show=("Date", "ETag", "Last-Modified")),
    get("range: fields of a 206 after If-Range", B, "Range: bytes=0-9", "If-Range: {etag}", show=("Date", "ETag")),
]

CODED = [
    get("coded: gzip", "/packed.txt", "Accept-Encoding: gzip", show=("Vary",)),
    get("coded: the fields of a plain answer", "/packed.txt", show=("Vary",)),
    get("coded: gzip refused", "/packed.txt", "Accept-Encoding: gzip;q=0"),
    get("coded: gzip liked less", "/packed.txt", "Accept-Encoding: gzip;q=0.5, identity"),
    get("coded: another coding", "/packed.txt", "Accept-Encoding: x-other"),
    get("coded: *", "/packed.txt", "Accept-Encoding: *"),
    get("coded: GZIP", "/packed.txt", "Accept-Encoding: GZIP"),
    head("coded: gzip, HEAD", "/packed.txt", "Accept-Encoding: gzip"),
    get("coded: the same tag", "/packed.txt", "Accept-Encoding: gzip", "If-None-Match: {etag}", coded=True),
    get("coded: the plain form's tag", "/packed.txt", "Accept-Encoding: gzip", "If-None-Match: {etag}"),
    get("coded: a range", "/packed.txt", "Accept-Encoding: gzip", "Range: bytes=0-9"),
    get("coded: a range, If-Range: same tag", "/packed.txt", "Accept-Encoding: gzip", "Range: bytes=0-9", "If-Range: {etag}",
        coded=True),
    get("coded: a range, If-Range: the plain form's tag", "/packed.txt", "Accept-Encoding: gzip", "Range: bytes=0-9",
        "If-Range: {etag}"),
    get("coded: plain, the coded form's tag", "/packed.txt", "If-None-Match: {etag}", coded=True),
]

REQUESTS = PLAIN + NONE_MATCH + MATCH + DATES + RANGES + SEVERAL + WITH_CONDITIONS + CODED

ALLOW = "405 Allow: GET, HEAD, OPTIONS"


def because(why, answers):
    """One reason for several requests: their names by pilb's answer to them."""
    return {name: Reason(answer, why) for answer, names in answers.items() for name in names}


# By the request's name. Each section is one of RFC 9110.
REASONS = {
    **because(
        "§15.5.4: a server that does not wish to say that something is there and forbidden may answer 404. nginx says 403.",
        answers={"404": ["a folder without an index"]}),
    **because(
        "§15.5.6, §10.2.1: a 405 must say in Allow what is allowed. nginx does not; Apache takes a POST to a file for a GET "
        "(and so applies conditions and ranges to it) and allows TRACE.",
        answers={ALLOW: ["POST to a file", "PUT of a file", "DELETE of a file", "If-None-Match: same, POST",
                         "If-Match: other, PUT", "If-Modified-Since: same, POST", "range: POST"]}),
    **because(
        "§9.3.7: OPTIONS tells what may be done with the file, and has no content; 204 is fit for that. nginx does not know it, "
        "Apache says 200, and allows POST and TRACE.",
        answers={"204 Allow: GET, HEAD, OPTIONS": ["OPTIONS of a file"]}),
    **because(
        "§5.2, §5.3: a list may be spread over several lines of a field. nginx refuses a second line.",
        answers={"304": ["If-None-Match: two lines"]}),
    **because(
        "§13.1.3, §13.2.2: a recipient must ignore If-Modified-Since if there is an If-None-Match. nginx and Apache want both to "
        "hold.",
        answers={"304": ["If-None-Match: same, date before"]}),
    **because(
        "§13.1.4, §13.2.2: a recipient must ignore If-Unmodified-Since if there is an If-Match. nginx and Apache want both to hold.",
        answers={"200 whole": ["If-Match: same, If-Unmodified-Since: before"]}),
    **because(
        "§13.1.3: the condition is false if the file changed no later than the date given. nginx compares for equality unless told "
        "otherwise.",
        answers={"304": ["If-Modified-Since: after"]}),
    **because(
        "§13.1.4: a recipient must ignore an If-Unmodified-Since that is no date. nginx fails it.",
        answers={"200 whole": ["If-Unmodified-Since: no date"]}),
    **because(
        "§14.1.2: a suffix of no bytes is well-formed and unsatisfiable. Apache ignores it.",
        answers={"416 */102400": ["range: suffix of nothing"]}),
    **because(
        "§15.5.17: a 416 should tell the length in Content-Range. Apache does not.",
        answers={"416 */102400": ["range: beyond the end", "ranges: both beyond the end", "If-Range: same tag, beyond the end"]}),
    **because(
        "§14.1.1, §14.2: an invalid ranges-specifier (last before first, no number, a space inside) may be ignored or refused. It is "
        "ignored here, as a whole, as by Apache. nginx says 416, or guesses.",
        answers={"200 whole": ["range: last before first", "range: no number", "range: a dash alone", "range: spaces inside",
                               "ranges: one of two malformed"]}),
    **because(
        "§14.1.2: positions may have any number of digits, and must not overflow: a last position or a suffix beyond the length "
        "means all that there is, a first one is unsatisfiable. nginx says 416 to all, Apache ignores all.",
        answers={"206 102000-102399": ["range: end over 64 bits"], "206 0-102399": ["range: suffix over 64 bits"],
                 "416 */102400": ["range: start over 64 bits"]}),
    **because(
        "§5.2, §14.2: two lines of Range are together an invalid ranges-specifier, which may be ignored. nginx takes the first.",
        answers={"200 whole": ["range: two lines"]}),
    **because(
        "§14.2: a server must ignore Range in a request whose method does not define it, and GET alone does. nginx and Apache apply "
        "it to HEAD.",
        answers={"200 head of the whole": ["range: HEAD", "range: beyond the end, HEAD"]}),
    **because(
        "§5.6.1.2: a recipient must take a list with a reasonable number of empty elements. nginx says 416, Apache ignores the "
        "field.",
        answers={"206 multipart 0-9, 20-29": ["ranges: two, spaces and empty elements"]}),
    **because(
        "§15.3.7.2: a server may join ranges that overlap or touch, and one part is then sent as one (it must not be a multipart "
        "if one range was asked for, and need not be otherwise). Apache does it too, nginx does not.",
        answers={"206 0-149": ["ranges: overlapping"], "206 0-19": ["ranges: adjacent"],
                 "206 0-9": ["ranges: five hundred of the same"]}),
    **because(
        "§14.2, §17.15: a server may ignore Range, and ought to where many small or overlapping parts are asked for. Sixteen parts "
        "are the limit here, 200 are Apache's, nginx has none. All of the bytes in several ranges are the whole, as for nginx.",
        answers={"200 whole": ["ranges: five hundred", "ranges: all bytes, twice"]}),
    **because(
        "§12.5.3, §12.4.2: weights count: what is refused by q=0 is not sent, and what is liked less than the plain form neither. "
        "nginx looks at q=0 alone, the rules from Apache's manual not even at that.",
        answers={"200 whole": ["coded: gzip refused", "coded: gzip liked less"]}),
    **because(
        "§12.5.3: `*` stands for every coding that is not named. nginx and the rules from Apache's manual do not know it.",
        answers={"200 gzip whole": ["coded: *"]}),
    **because(
        "§8.4.1: the names of codings are case-insensitive. The rules from Apache's manual are not.",
        answers={"200 gzip whole": ["coded: GZIP"]}),
    **because(
        "§15.4.5: a 304 should have no metadata of the representation but those that it needs. Apache adds Content-Encoding.",
        answers={"304": ["coded: the same tag"]}),
    **because(
        "§12.5.5: Vary belongs to every answer of a resource that has several forms, so that a cache does not take the plain one "
        "for the only one. The rules from Apache's manual send it with the coded form alone.",
        answers={"200 whole with Vary": ["coded: the fields of a plain answer"]}),
    **because(
        "§14.2, §8.4: a range is one of the selected representation, here of its coded bytes. nginx sends files that were "
        "compressed beforehand only whole.",
        answers={"206 gzip 0-9": ["coded: a range", "coded: a range, If-Range: same tag"]}),
}
