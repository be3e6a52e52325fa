"""Tokens: what they must have, what they are for, and what is none."""

import hmac
import json
import math
from typing import Any

import jwt
import pytest
from headwater_edge.auth.keys import TokenKey
from headwater_edge.auth.tokens import Tokens, sign, signed_text
from hypothesis import given
from hypothesis import strategies as st
from support.auth_requests import NOW, SECRET, asked, forged, refusal

FORMER = b"f" * 64
KEYS = (TokenKey(SECRET, ("HS256",)), TokenKey(FORMER, ("HS512",)))


def made(**settings: Any) -> Tokens:
    return Tokens(lambda: KEYS, now=lambda: NOW, **settings)


def web_token(secret: bytes = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    claims = {"exp": NOW + 60, **claims}
    given = json.dumps({name: value for name, value in claims.items() if value is not None})
    # Not jwt.encode(), which makes no bad ones.
    return "token=" + jwt.PyJWS().encode(given.encode(), secret, algorithm)


@pytest.mark.parametrize(
    ("claims", "action", "said"),
    [
        ({}, "publish", ""),
        ({"exp": NOW}, "publish", "has expired"),
        ({"exp": NOW + 0.5}, "publish", ""),
        ({"exp": None}, "publish", "has no expiry"),
        ({"exp": str(NOW + 60)}, "publish", "exp is no time"),
        ({"exp": True}, "publish", "exp is no time"),
        ({"exp": math.inf}, "publish", "exp is no time"),
        ({"exp": 10**400}, "publish", "exp is no time"),
        ({"nbf": NOW + 9}, "publish", ""),
        ({"nbf": NOW + 11}, "publish", "not valid yet"),
        ({"iat": NOW + 1000}, "publish", ""),
        ({"app": "chat/lobby"}, "publish", ""),
        ({"app": "chat"}, "publish", "for another application"),
        ({"app": "chat/*"}, "publish", ""),
        ({"apps": ["live", "chat/*"]}, "publish", ""),
        ({"apps": ["live", "chat?lobby", "[c]hat/*"]}, "publish", "for another application"),
        ({"stream": "cam/1"}, "publish", ""),
        ({"stream": "Cam/1"}, "publish", "for another stream"),
        ({"stream": "cam"}, "publish", "for another stream"),
        ({"stream": "*"}, "publish", ""),
        ({"streams": []}, "publish", "for another stream"),
        ({"streams": ["other"], "stream": "cam/1"}, "publish", ""),
        ({"streams": ["other"]}, "publish", "for another stream"),
        ({"stream": "other"}, "connect", ""),
        ({"stream": 7}, "publish", "stream is no text"),
        ({"stream": ["cam/1", 7]}, "publish", "stream is no text"),
        ({"streams": None, "action": ["play", "publish"]}, "publish", ""),
        ({"action": "play"}, "publish", "does not allow publish"),
        ({"actions": ["play"]}, "publish", "does not allow publish"),
        ({"action": "connect"}, "publish", "does not allow publish"),
        ({"action": "play"}, "connect", ""),
        ({"actions": []}, "connect", "does not allow connect"),
        ({"address": "203.0.113.5"}, "publish", ""),
        ({"addresses": ["10.0.0.0/8", "203.0.113.0/24"]}, "publish", ""),
        ({"address": "10.0.0.0/8"}, "publish", "for another address"),
        ({"address": "*"}, "publish", "address is no network"),
        ({"address": []}, "publish", "for another address"),
        ({"aud": "edges"}, "publish", "for another audience"),
        ({"crit": ["x"], "sub": "ann"}, "publish", ""),
    ],
)
def test_what_the_claims_of_a_token_allow(claims: dict[str, Any], action: str, said: str) -> None:
    reason = refusal(made(), asked(action, web_token(**claims)))
    assert said in reason
    assert bool(said) == bool(reason)


def test_a_null_is_no_claim_without_limits() -> None:
    token = jwt.encode({"exp": NOW + 60, "stream": None}, SECRET)
    assert refusal(made(), asked(query=f"token={token}")) == "the token's stream is no text"


@pytest.mark.parametrize(
    ("settings", "claims", "said"),
    [
        ({"audience": "edges"}, {"aud": ["others", "edges"]}, ""),
        ({"audience": "edges"}, {"aud": "others"}, "another audience"),
        ({"audience": "edges"}, {}, "another audience"),
        ({"audience": "edges"}, {"aud": []}, "another audience"),
        ({"issuer": "shop"}, {"iss": "shop"}, ""),
        ({"issuer": "shop"}, {"iss": ["shop"]}, "another issuer"),
        ({"issuer": "shop"}, {}, "another issuer"),
        ({}, {"iss": "anybody"}, ""),
    ],
)
def test_for_whom_and_from_whom_a_token_has_to_be(
    settings: dict[str, str], claims: dict[str, Any], said: str
) -> None:
    reason = refusal(made(**settings), asked(query=web_token(**claims)))
    assert said in reason
    assert bool(said) == bool(reason)


def test_each_key_has_its_own_algorithms() -> None:
    assert refusal(made(), asked(query=web_token(FORMER, "HS512"))) == ""
    for secret, algorithm in ((FORMER, "HS256"), (SECRET, "HS512"), (b"x" * 64, "HS256")):
        reason = refusal(made(), asked(query=web_token(secret, algorithm)))
        assert reason == "the token is signed by no key that is known"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "x" * 5000,
        "\ud800",
        forged({"alg": "none"}),
        forged({"alg": "nOnE"}),
        forged({}),
        forged({"alg": ["HS256"]}),
        forged({"alg": {"a": 1}}),
        forged({"alg": "RS256"}),
        forged(b"[" * 3000),
        forged(b"7"),
        forged({"alg": "HS256"}, b"[1]"),
        forged({"alg": "HS256"}, b"[" * 3000),
        forged({"alg": "HS256"}, b"\xff"),
        forged({"alg": "HS256", "crit": ["exp"]}),
        forged({"alg": "HS256", "b64": False, "crit": ["b64"]}),
        forged({"alg": "HS256", "kid": 7}),
    ],
)
def test_what_is_no_token_is_signed_by_no_key(token: str) -> None:
    assert refusal(made(), asked(query=f"token={token}")) == "the token is signed by no key that is known"


def test_the_forger_of_these_tests_can_make_good_ones() -> None:
    assert refusal(made(), asked(query=f"token={forged({'alg': 'HS256'})}")) == ""


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "publish needs a token"),
        ("tokens=x&Token=x", "publish needs a token"),
        ("token=a&token=b", "token is there more than once"),
        ("expires=1&sig=a&expires=2", "expires is there more than once"),
        ("&".join("abc"[i % 3] + "=" for i in range(33)), "more than 32 parameters"),
        ("x" * 8193, "a query of 8193 characters"),
    ],
)
def test_a_query_without_one_good_token(query: str, said: str) -> None:
    assert said in refusal(made(), asked(query=query))


def test_a_token_behind_the_streams_name_comes_before_one_behind_the_address() -> None:
    good, bad = web_token(), web_token(exp=NOW - 1)
    assert refusal(made(), asked(query="", connect_query=good)) == ""
    assert refusal(made(), asked(query="angle=3", connect_query=good)) == ""
    assert refusal(made(), asked(query=good, connect_query=bad)) == ""
    assert refusal(made(), asked(query=bad, connect_query=good)) == "the token has expired"


def test_actions_that_need_no_token_are_not_looked_at() -> None:
    tokens = made(actions=["publish"])
    assert tokens.check(asked("play", "token=rubbish")) == ""
    assert refusal(tokens, asked("publish", "token=rubbish")) != ""


@pytest.mark.parametrize(
    ("claims", "identity"),
    [
        ({"sub": "ann", "jti": "7"}, "sub:ann"),
        ({"jti": "7"}, "jti:7"),
        ({"sub": "", "jti": "7"}, "jti:7"),
        ({"sub": 7}, ""),
        ({}, ""),
    ],
)
def test_who_it_is(claims: dict[str, Any], identity: str) -> None:
    assert made().check(asked(query=web_token(**claims))) == identity


# Signatures


def signature(secret: bytes = SECRET, expires: int = int(NOW) + 60, **of: str) -> str:
    values = {"action": "publish", "app": "chat/lobby", "stream": "cam/1", "address": "", **of}
    return f"expires={expires}&sig={sign(secret, expires=expires, **values)}"


def test_the_signed_text_is_as_it_is_documented() -> None:
    """docs/authentication.md has these values, for those who make signatures with something else."""
    assert signed_text("publish", "live", "cam", 1800000000) == b"publish\nlive\ncam\n1800000000\n"
    assert (
        sign(b"0123456789abcdef0123456789abcdef", "publish", "live", "cam", 1800000000)
        == "61d52f09af090150bb3085991e852f8c27c9c68ca440304db163161705b4af8d"
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (signature(), ""),
        (signature(FORMER), ""),
        (signature().upper().replace("EXPIRES", "expires").replace("SIG", "sig"), ""),
        (signature(action=""), ""),
        (signature(stream=""), ""),
        (signature(address="203.0.113.5"), ""),
        (signature(action="", stream="", address="203.0.113.5"), ""),
        (signature(address="203.0.113.6"), "or for something else"),
        (signature(action="play"), "or for something else"),
        (signature(app="chat"), "or for something else"),
        (signature(app=""), "or for something else"),
        (signature(stream="cam"), "or for something else"),
        (signature(b"x" * 64), "or for something else"),
        (signature(expires=int(NOW)), "has expired"),
        (signature().replace("expires=", "expires=+"), "no expiry"),
        (signature().replace("expires=", "expires=%20"), "no expiry"),
        (signature().replace("expires=1", "expires=%D9%A1"), "no expiry"),
        (signature().replace("expires=", "x="), "no expiry"),
        (f"expires={'9' * 13}&sig=00", "no expiry"),
        (signature()[:-1], "or for something else"),
        (signature() + "0", "or for something else"),
        (f"expires={int(NOW) + 60}&sig=", "or for something else"),
        (f"expires={int(NOW) + 60}&sig=%ED%A0%80%F0%9F%98%80", "or for something else"),
    ],
)
def test_what_a_signature_allows(query: str, said: str) -> None:
    reason = refusal(made(), asked(query=query))
    assert said in reason
    assert bool(said) == bool(reason)


def test_a_signature_is_not_read_with_other_lines() -> None:
    """A name with a line end would move what stands behind it."""
    expires = int(NOW) + 60
    given = f"expires={expires}&sig={sign(SECRET, 'publish', 'chat/lobby', f'a{chr(10)}b', expires)}"
    assert "printable" in refusal(made(), asked(query=given, stream="a\nb"))


def test_a_public_key_makes_no_signatures() -> None:
    tokens = Tokens(lambda: [TokenKey(object(), ("RS256",))], now=lambda: NOW)
    assert "or for something else" in refusal(tokens, asked(query=signature()))


def test_who_gives_the_same_signature_is_the_same() -> None:
    first, again, other = (
        made().check(asked(query=signature(stream=stream))) for stream in ("cam/1", "cam/1", "")
    )
    assert first == again != other
    assert first.startswith("sig:")


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(one: bytes, two: bytes) -> bool:
        compared.append((one, two))
        return compare(one, two)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    counts = set()
    for query in (
        signature(),
        signature(FORMER, action="", stream="", address="203.0.113.5"),
        signature(b"x" * 64),
    ):
        compared.clear()
        refusal(made(), asked(query=query))
        counts.add(len(compared))
        given = query.rpartition("=")[2].encode()
        assert {two for _, two in compared} == {given}
    assert counts == {2 * 2 * 2 * 2}, "whether it fits must not show in how many are compared"


# Whatever comes


@given(st.text(max_size=300), st.sampled_from(["connect", "publish", "play"]))
def test_no_query_is_taken_for_a_token_or_more_than_an_error(query: str, action: str) -> None:
    for given_query in (query, f"token={query}", f"expires=1900000000&sig={query}"):
        assert refusal(made(), asked(action, given_query)) != ""


CLAIMS = st.sampled_from(
    ["app", "apps", "stream", "action", "address", "exp", "nbf", "aud", "iss", "sub", "jti"]
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@given(st.dictionaries(CLAIMS, st.recursive(VALUES, st.lists, max_leaves=4)))
def test_no_claims_do_more_than_an_error(claims: dict[str, Any]) -> None:
    token = forged({"alg": "HS256"}, json.dumps(claims).encode())
    reason = refusal(made(), asked(query=f"token={token}"))
    if "exp" not in claims:
        assert reason != ""
