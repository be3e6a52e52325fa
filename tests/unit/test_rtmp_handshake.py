"""The handshake of either side: RTMP 1.0, section 5.2, and the digests of Flash Player 9."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from headwater_rtmp import handshake_digest as digests
from headwater_rtmp.errors import LocalProtocolError, RemoteProtocolError
from headwater_rtmp.handshake import ClientHandshake, ServerHandshake

# C1 of FFmpeg 5.1 (Debian 12), captured on loopback: version 9.0.124.2, digest of scheme 0.
FFMPEG_C1 = base64.b64decode(
    "AAAAAAkAfAL3eFUezquOHjYvB8WGinCyZtQCIOUIYRiiLjaX1fwrYynCLufHybC1s0XfqDmP6jvIeSCKEGhCWqEXTLVyWM/r4k2kLsT/naGce0"
    "BvGMlb/dBO5ItvgzIUpHuL9o6wUlTiWumpqLSWxUlvbpzXxoy2vMhBaeZ/Pjcv/hhtqFE4YsWv3rWhIYqGC6zN2GmyU9urig77WaSMRCCZh15V"
    "t0/QehtprzA+CZhzy3fi2eLEdB6x9Qan8LKWKvkfUFHIkKMgmU9MizagH6nA8V9LfPe2w4F9pgkYYR07Av98yUA4k3U30zguQWvVdXeDTfnK90"
    "g1IVDOktDbtA6HH8Nk4Yt+NWnjmHbBrgy3n/bXqzL58BGGnI2kGR70bTwbxrctg4EvIkPRdSpBJjLWaiB19dMC9FzfK5i4AreYBdxIN9hO3tHM"
    "Qsun7sMTe/ht0LLX9iTVIaP/ZVvPDfQQE0HSMOlGUWKORaer+BgxAc6YHl6GpvrsXHmqfscYHqRZ7ZZuDJMqb55L9VSrexyQXN4FTtQNL7ibv8"
    "ZXUuWM/eTyoE3DrR5e9Pxk1XsHHBQUakUfagQxVtKID1lX1439P/K4gPYkrHDycJTzdzTq8ZJPZqw9ZIriMpMFRKRCC2Xu1Glvf1D+BfyUhRZl"
    "C/ubZflT2EjjRWll0NdrYnqE416d2r2LQ/D62u5FjN9Z69dzki4K5QfV5kCS6Q7GfthDno8iHHU6n5IW8cuFtRB7x8x8T7LD7tGvxwmxkvUN5p"
    "wf/KVlDvtSO1+rWZfKxLfvWvK/WXPmKTuuH8HaSZvlUVB33k3bP3+810FxHGK32AO40FTPV4GCcU0cRFvWkrobg5oJ5yZvyF2qj61DPau9IGze"
    "HqVxdwxr+nlWwmbuhDXrAcqm9YPA2Dwz7vzz+X25F72ymfion7iGCrHNZEwegszhMjqet50l9dxXC3C0C7IAYXQzU9BTbs2r2C8id3ViKMtU/m"
    "kyxMm9Ew0r/HAL9dhdppRulvguCv2OnCDP6r+aahibsXu+9TnR2ec+6Wb8tda9v5hETehlvhYF40CHs0zfBOOv9VvUE3xSLS48e/JjTbMmsipH"
    "Tbf4oJUqs1EN5VU5bBijeKg5C3O/93cvsnYPpXhqOwRZxFodGw3/TLu2XaDtNPMhFsPCzCuVglERvPuyRsFQWqAMlw0G12zJUM42iyINsgSHy6"
    "ArsfxUs2VntCkT1riFBizXeVYB0xpKjm1WRn+lxSFiZ2/VJhIlE8Pkfy5tnWoZxPh5VDGpTO0DkiHSesaKencOkwUlInFFm3HQVQXEl3tw6WhR"
    "IIus3N9+aCs4SIQIgPH+wqMvsUBoYryDytia33KfO6b/0/6AjoQD58ag9tzaMhGJj28WUFsHjMeLgNtgDe0vIA8l/13LMdMsviBWuL3DEJFjGr"
    "vSrCjWH+MkgOxQNbvzXxczk/DVmiHSMAsttLWeqmP/4Pk9ZdwChRaQXyKpx9/zh8TreMYwDn67sqZmPPvlqZd8r1dkuj8KulfbTmBR4K7G4Fsb"
    "2qZJqXh17bxAvMQhS7f+9ycw1DaKy9PhCrTHZCocU/k8om25x2ZVW+Jv3/DipyFCW5V2Kwt3b9Pj6xcxPVMSnJ80ADyZpRlqjGqsttZLUd2Ysn"
    "xbWacL2UGhugMA+3RM/EmdmX5tkzktKKdn0RbfvCy560BUDRHrMErZMiOG/cWX1V09HGe8VN81R5r7Geos0gTdMx77ScHhcva7ifv1ggfcrmwS"
    "+KdZi+8ehywMNfIrTCnfEPm7Gt0664h6tfs4wDa4g0b3YcQvKV3+C0N9+08wpxJ2q31AnOQklj+eu08fR+UrGHhvJ5tahyJvZpgd1tCtEfSa8x"
    "BV/2lxD9o0V8S3hS2y45NtB3i/h58XNK06JP+xrpWEdgucsEUqU7oJYv/i9gWvUoML0hGlSIiUzAsFIlUEhxHNGYUQqelDv4uDkZhFX71BBzAF"
    "0wOZC4jZtjZW1Dz+yO2DdI9LDw/FEgIWeUsioFTlvFir2MQQlgcIhDk0U85QlpSvvqvg"
)


def counted(label: bytes) -> Callable[[int], bytes]:
    """Bytes that look random and are the same in each run."""
    return lambda size: hashlib.shake_128(label).digest(size)


def c1_of(scheme: int) -> tuple[bytes, bytes]:
    block = bytes(4) + bytes((9, 0, 124, 2)) + counted(b"c1")(1528)
    return digests.sign_block(block, scheme, digests.CLIENT_TEXT)


def test_simple_server_echoes_c1() -> None:
    server = ServerHandshake(counted(b"s"))
    c1 = b"\0\0\1\2" + bytes(4) + b"r" * 1528
    sent = server.feed(b"\3" + c1)
    assert len(sent) == 1 + 1536 + 1536
    assert sent[0] == 3
    assert sent[5:9] == bytes(4)
    assert sent[1537:] == c1
    assert not server.done
    assert server.feed(b"c" * 1536 + b"rest") == b""
    assert (server.done, server.rest, server.digest_scheme) == (True, b"rest", None)


def test_all_clients_of_a_server_get_the_same_random_bytes() -> None:
    # RTMP 1.0, 5.2.3: "there is no need for cryptographically-secure randomness, or even dynamic values".
    first, second = (ServerHandshake().feed(b"\3" + bytes(1536))[1:1537] for _ in range(2))
    assert first == second
    assert len(set(first[8:])) > 200


def test_server_answers_as_soon_as_c1_is_whole() -> None:
    server = ServerHandshake(counted(b"s"))
    assert server.feed(b"\3" + bytes(1535)) == b""
    assert len(server.feed(bytes(1))) == 3073


@pytest.mark.parametrize("size", [1, 7, 1536, 1537, 3072, 4000])
@pytest.mark.parametrize("digest", [False, True])
def test_any_cut_gives_the_same_handshake(size: int, digest: bool) -> None:
    whole = [run(digest, 10_000), run(digest, size)]
    assert whole[0] == whole[1]


def run(digest: bool, size: int) -> tuple[bytes, bytes, bytes, bytes]:
    client, server = ClientHandshake(digest, counted(b"c")), ServerHandshake(counted(b"s"))
    first = client.feed(b"")
    answer = pieces(server, first, size)
    second = pieces(client, answer + b"", size)
    pieces(server, second, size)
    assert client.done
    assert server.done
    assert client.digest_scheme == server.digest_scheme == (0 if digest else None)
    return first, answer, second, server.rest


def pieces(side: ClientHandshake | ServerHandshake, data: bytes, size: int) -> bytes:
    return b"".join(side.feed(data[at : at + size]) for at in range(0, len(data), size))


@pytest.mark.parametrize("scheme", [0, 1])
def test_server_finds_the_digest_of_either_scheme(scheme: int) -> None:
    c1, digest = c1_of(scheme)
    server = ServerHandshake(counted(b"s"))
    sent = server.feed(b"\3" + c1)
    s1, s2 = sent[1:1537], sent[1537:]
    assert server.digest_scheme == scheme
    found = digests.find_digest(s1, digests.SERVER_TEXT)
    assert found is not None
    assert found[0] == scheme
    assert s1[4:8] != bytes(4)
    assert digests.answer_is_valid(s2, digests.SERVER_KEY, digest)


def test_server_finds_the_digest_of_a_real_encoder() -> None:
    server = ServerHandshake(counted(b"s"))
    server.feed(b"\3" + FFMPEG_C1)
    assert server.digest_scheme == 0


@pytest.mark.parametrize("at", [100, 1535])
def test_a_digest_that_does_not_validate_falls_back_to_simple(at: int) -> None:
    broken = bytearray(FFMPEG_C1)
    broken[at] ^= 1
    server = ServerHandshake(counted(b"s"))
    sent = server.feed(b"\3" + broken)
    assert server.digest_scheme is None
    assert sent[1537:] == broken


def test_version_zero_is_simple_even_with_a_digest() -> None:
    c1, _ = digests.sign_block(bytes(8) + counted(b"c")(1528), 0, digests.CLIENT_TEXT)
    server = ServerHandshake(counted(b"s"))
    assert server.feed(b"\3" + c1)[1537:] == c1
    assert server.digest_scheme is None


def test_digest_client_with_a_simple_server_echoes_s1() -> None:
    client = ClientHandshake(True, counted(b"c"))
    c1 = client.feed(b"")[1:]
    s1 = bytes(8) + b"s" * 1528
    assert client.feed(b"\3" + s1 + c1) == s1
    assert client.digest_scheme is None


def test_digest_client_refuses_a_wrong_signature() -> None:
    client, server = ClientHandshake(True, counted(b"c")), ServerHandshake(counted(b"s"))
    sent = bytearray(server.feed(client.feed(b"")))
    sent[-1] ^= 1
    with pytest.raises(RemoteProtocolError, match=r"S2 with another signature, expected one for our C1"):
        client.feed(bytes(sent))


def test_digest_clients_c2_is_signed_for_the_server() -> None:
    client, server = ClientHandshake(True, counted(b"c")), ServerHandshake(counted(b"s"))
    sent = server.feed(client.feed(b""))
    c2 = client.feed(sent)
    found = digests.find_digest(sent[1:1537], digests.SERVER_TEXT)
    assert found is not None
    assert digests.answer_is_valid(c2, digests.CLIENT_KEY, found[1])


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (6, r"C0: RTMP version 6 \(RTMPE\), expected 3 \(offset 0\)"),
        (8, r"version 8 \(RTMPE with XTEA\)"),
        (9, r"version 9 \(RTMPE with Blowfish\)"),
        (0x16, r"version 22 \(TLS\)"),
        (0, r"version 0,"),
        (2, r"version 2,"),
        (32, r"version 32,"),
        (255, r"version 255,"),
        (ord("G"), r"version 71 \(HTTP\)"),
    ],
)
def test_other_versions_are_refused_at_the_first_byte(first: int, text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=text):
        ServerHandshake().feed(bytes((first,)))


@pytest.mark.parametrize("first", [4, 31])
def test_versions_to_come_are_answered_with_ours(first: int) -> None:
    # RTMP 1.0, 5.2.2: "A server that does not recognize the client's requested version SHOULD respond with 3."
    server = ServerHandshake()
    answer = server.feed(bytes((first,)) + bytes(1536))
    assert (answer[0], len(answer)) == (3, 3073)
    server.feed(bytes(1536))
    assert server.done


def test_client_refuses_another_version() -> None:
    client = ClientHandshake()
    client.feed(b"")
    with pytest.raises(RemoteProtocolError, match="S0: RTMP version 6"):
        client.feed(b"\6")


def test_done_takes_no_more() -> None:
    server = ServerHandshake()
    server.feed(b"\3" + bytes(1536 * 2))
    with pytest.raises(LocalProtocolError):
        server.feed(b"x")
