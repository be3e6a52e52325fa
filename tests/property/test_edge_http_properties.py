"""HTTP requests are the same however their bytes are cut, and no bytes do more than end a connection."""

from itertools import pairwise

from headwater_edge.doors.http_reader import BadRequest, HttpReader, Received
from hypothesis import given
from hypothesis import strategies as st

BODY_LIMIT = 2000


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, Received]:
    """Bytes of one request, and what is to be read of them."""
    target = draw(
        st.sampled_from(["/open/1", "/send/abc/17", "/idle/abc/4294967295", "http://edge/close/abc/2"])
    )
    body = draw(st.binary(max_size=300))
    forwarded = draw(st.lists(st.sampled_from(["192.0.2.1", "10.0.0.1, ::1"]), max_size=2))
    lines = [f"POST {target} HTTP/1.1", "Host: edge", *(f"X-Forwarded-For: {text}" for text in forwarded)]
    if draw(st.booleans()):
        lines.append("Expect: 100-continue")
    if draw(st.booleans()):
        lines.append("Transfer-Encoding: chunked")
        written = b""
        rest = body
        while rest:
            size = draw(st.integers(1, len(rest)))
            written += b"%x;a=b\r\n%s\r\n" % (size, rest[:size])
            rest = rest[size:]
        written += b"0\r\n" + (b"Trailer: x\r\n" if draw(st.booleans()) else b"") + b"\r\n"
    else:
        lines.append(f"Content-Length: {len(body)}")
        written = body
    received = Received("POST", target.removeprefix("http://edge"), body, ",".join(forwarded))
    return "\r\n".join([*lines, "", ""]).encode() + written, received


def read(data: bytes, cuts: list[int]) -> tuple[list[Received], HttpReader, BadRequest | None]:
    reader = HttpReader(BODY_LIMIT)
    found: list[Received] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for begin, end in pairwise(edges):
            reader.feed(data[begin:end])
            found += reader.received
            reader.received.clear()
    except BadRequest as error:
        return found + list(reader.received), reader, error
    return found, reader, None


@given(st.lists(requests(), max_size=6), st.lists(st.integers(0, 10_000), max_size=20), st.data())
def test_any_cut_of_requests_gives_the_same(
    sent: list[tuple[bytes, Received]], cuts: list[int], data: st.DataObject
) -> None:
    whole = b"".join(written for written, _ in sent)
    found, reader, error = read(whole, cuts)
    assert error is None
    assert found == [received for _, received in sent]
    assert reader.number == len(sent)
    assert (reader.begun, reader.expects, reader.ended) == (False, False, False)


@given(requests(), st.integers(0, 10_000), st.lists(st.integers(0, 10_000), max_size=5))
def test_a_part_of_a_request_is_none(sent: tuple[bytes, Received], size: int, cuts: list[int]) -> None:
    whole, _ = sent
    part = whole[: size % len(whole)]
    found, reader, error = read(part, cuts)
    assert (found, error) == ([], None)
    assert reader.begun == bool(part)
    assert reader.in_head == (0 < len(part) < whole.index(b"\r\n\r\n") + 4)


@given(
    st.lists(st.one_of(requests().map(lambda sent: sent[0]), st.binary(max_size=200)), max_size=6),
    st.integers(0, 10_000),
    st.binary(max_size=3),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_garbage_only_ends_it(parts: list[bytes], at: int, put: bytes, cuts: list[int]) -> None:
    """Nothing but BadRequest is raised, and nothing that is handed over is over the limits."""
    data = b"".join(parts)
    at %= len(data) + 1
    found, _, error = read(data[:at] + put + data[at + 1 :], cuts)
    assert error is None or 400 <= error.status < 500
    assert all(len(received.body) <= BODY_LIMIT for received in found)
