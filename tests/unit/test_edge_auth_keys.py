"""Files of keys: what can be used, with which algorithms, and what happens when they change."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from headwater_edge.auth import keys as keys_module
from headwater_edge.auth.keys import KeyFiles, TokenKeyError, load_key
from headwater_edge.auth.tokens import Tokens
from support.auth_requests import NOW, asked, forged
from support.auth_requests import refusal as token_refusal
from support.edge_client import warnings


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    """As an operator replaces a file: at once."""
    beside = path.with_suffix(".new")
    beside.write_bytes(text.encode() if isinstance(text, str) else text)
    beside.chmod(mode)
    beside.rename(path)
    return path


def refusal(path: Path, *wanted: str) -> str:
    with pytest.raises(TokenKeyError) as caught:
        load_key(path, wanted)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("size", "wanted", "algorithms"),
    [
        (32, (), ("HS256",)),
        (64, (), ("HS256",)),
        (64, ("HS512",), ("HS512",)),
        (64, ("HS256", "HS384", "HS512", "RS256"), ("HS256", "HS384", "HS512")),
        (48, ("HS256", "HS384", "HS512"), ("HS256", "HS384")),
    ],
)
def test_a_secret_is_for_the_algorithms_that_it_is_long_enough_for(
    tmp_path: Path, size: int, wanted: tuple[str, ...], algorithms: tuple[str, ...]
) -> None:
    secret = "k" * size
    key = load_key(write(tmp_path / "key", f"  {secret}\n\n"), wanted)
    assert (key.secret, key.algorithms) == (secret.encode(), algorithms)


@pytest.mark.parametrize(
    ("content", "wanted", "said"),
    [
        ("k" * 31, (), "a secret of 31 bytes, expected at least 32 for HS256"),
        ("k" * 32, ("HS512", "HS384"), "a secret of 32 bytes, expected at least 48 for HS384"),
        ("", (), "expected at least 32"),
        ("k" * 40 + "\n" + "l" * 40, (), "expected one secret in one line"),
        ("k" * 20 + " " + "l" * 20, (), "expected one secret in one line"),
        ("schlüssel" * 8, (), "expected one secret in one line"),
        (b"\x00" * 40, (), "expected one secret in one line"),
        ("k" * 70_000, (), "more than 65536 bytes"),
        ("k" * 64, ("RS256",), "a secret, for which no algorithm is allowed"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n", (), "a private key"),
    ],
)
def test_what_is_no_key(tmp_path: Path, content: str | bytes, wanted: tuple[str, ...], said: str) -> None:
    path = write(tmp_path / "key", content)
    text = refusal(path, *wanted).replace(str(path), "")
    assert said in text
    assert "kkk" not in text
    assert "schl" not in text


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    for mode in (0o640, 0o604, 0o620):
        assert f"mode {mode:o}" in refusal(write(tmp_path / "key", "k" * 64, mode))
    assert load_key(write(tmp_path / "key", "k" * 64, 0o400)).secret


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "key")
    assert "Is a directory" in refusal(tmp_path)


def test_a_key_shows_nothing_of_itself(tmp_path: Path) -> None:
    assert "k" * 8 not in repr(load_key(write(tmp_path / "key", "k" * 64)))


# Public keys


def test_public_keys_need_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise NotImplementedError(name)

    monkeypatch.setattr(jwt, "get_algorithm_by_name", missing)
    pem = "-----BEGIN PUBLIC KEY-----\nMC4CAQ\n-----END PUBLIC KEY-----\n"
    assert "install headwater-edge[public-keys]" in refusal(write(tmp_path / "key", pem))


@pytest.fixture
def pair(tool: Callable[[str], str], tmp_path: Path) -> Callable[..., tuple[bytes, Path]]:
    """A private key in PEM, and a file with the public one. Needs the package `cryptography` for all that is done with them."""
    pytest.importorskip("cryptography")

    def make(*arguments: str) -> tuple[bytes, Path]:
        private, public = tmp_path / "private.pem", tmp_path / "public.pem"
        openssl = tool("openssl")
        subprocess.run([openssl, "genpkey", *arguments, "-out", private], check=True, capture_output=True)
        subprocess.run([openssl, "pkey", "-in", private, "-pubout", "-out", public], check=True)
        return private.read_bytes(), public

    return make


RSA = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
CURVE = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


@pytest.mark.parametrize(
    ("made", "wanted", "algorithms"),
    [
        (RSA, (), ("RS256",)),
        (RSA, ("PS256", "RS512", "HS256"), ("RS512", "PS256")),
        (CURVE, (), ("ES256",)),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), (), ("ES384",)),
        (("-algorithm", "ED25519"), (), ("EdDSA",)),
    ],
)
def test_a_public_key_verifies_what_its_private_one_signs(
    pair: Callable[..., tuple[bytes, Path]],
    made: tuple[str, ...],
    wanted: tuple[str, ...],
    algorithms: tuple[str, ...],
) -> None:
    private, public = pair(*made)
    public.chmod(0o644)
    key = load_key(public, wanted)
    assert key.algorithms == algorithms
    assert key.secret is None
    for name in algorithms:
        token = jwt.encode({"sub": "ann"}, private, name)
        assert jwt.decode(token, key.key, algorithms=list(key.algorithms)) == {"sub": "ann"}


def test_a_public_key_is_never_taken_for_a_secret(pair: Callable[..., tuple[bytes, Path]]) -> None:
    """Who has the public key would else sign with it, as if it were a secret."""

    _, public = pair(*RSA)
    key = load_key(public, ("RS256", "HS256"))
    assert key.algorithms == ("RS256",)
    claims = b'{"exp":%d}' % (NOW + 60)
    token = forged({"alg": "HS256"}, claims, public.read_bytes())
    reason = token_refusal(Tokens(lambda: [key], now=lambda: NOW), asked(query=f"token={token}"))
    assert reason == "the token is signed by no key that is known"


def test_which_public_keys_are_refused(pair: Callable[..., tuple[bytes, Path]], tmp_path: Path) -> None:
    _, public = pair("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")
    assert "an RSA key of 1024 bits, expected at least 2048" in refusal(public)
    _, public = pair(*CURVE)
    assert "a key for ES256, none of which is allowed" in refusal(public, "RS256")
    pem = "-----BEGIN PUBLIC KEY-----\nMC4CAQ\n-----END PUBLIC KEY-----\n"
    assert "expected a public key in PEM" in refusal(write(tmp_path / "key", pem))


# Files that change


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def settled(keys: KeyFiles, clock: Clock) -> list[bytes | None]:
    """The secrets, after two looks."""
    for _ in range(2):
        clock.now += 2
        secrets = [key.secret for key in keys()]
    return secrets


def test_keys_are_read_again_when_their_files_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths, clock = [write(tmp_path / name, name * 40) for name in ("a", "b")], Clock()
    keys = KeyFiles(paths, clock=clock)
    assert [key.secret for key in keys()] == [b"a" * 40, b"b" * 40]
    write(paths[1], "c" * 40)
    for after_s in (1.9, 0.1, 1.9):
        clock.now += after_s
        assert [key.secret for key in keys()] == [b"a" * 40, b"b" * 40]
    clock.now += 0.1
    assert [key.secret for key in keys()] == [b"a" * 40, b"c" * 40]
    assert not warnings(caplog)


def test_while_a_file_cannot_be_used_the_keys_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, clock = write(tmp_path / "key", "a" * 40), Clock()
    keys = KeyFiles([path], clock=clock)
    write(path, "short")
    for _ in range(3):
        clock.now += 2
        assert [key.secret for key in keys()] == [b"a" * 40]
    assert [record.message for record in caplog.records] == ["token keys not loaded, those before stay"]
    path.unlink()
    assert settled(keys, clock) == [b"a" * 40]
    write(path, "b" * 40)
    assert settled(keys, clock) == [b"b" * 40]


def test_keys_that_are_replaced_one_after_the_other_are_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is a half-written one an error."""
    path, clock = write(tmp_path / "key", "a" * 40), Clock()
    keys = KeyFiles([path], clock=clock)
    write(path, "b")
    clock.now += 2
    assert [key.secret for key in keys()] == [b"a" * 40]
    write(path, "b" * 40)
    assert settled(keys, clock) == [b"b" * 40]
    assert not warnings(caplog)


def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = write(tmp_path / "key", "a" * 40), Clock()
    keys = KeyFiles([path], clock=clock)
    load = keys_module.load_key

    def load_slowly(*of: Any) -> Any:
        key = load(*of)
        write(path, "c" * 40)
        monkeypatch.setattr(keys_module, "load_key", load)
        return key

    monkeypatch.setattr(keys_module, "load_key", load_slowly)
    write(path, "b" * 40)
    assert settled(keys, clock) == [b"b" * 40]
    assert settled(keys, clock) == [b"c" * 40]


def test_the_first_reading_raises(tmp_path: Path) -> None:
    with pytest.raises(TokenKeyError):
        KeyFiles([write(tmp_path / "key", "a" * 40), tmp_path / "none"])
    assert os.listdir(tmp_path) == ["key"]
