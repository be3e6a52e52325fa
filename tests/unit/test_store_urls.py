"""Store URLs: what they mean, what they must not show, and what is said of those that will not do."""

import sys
from pathlib import Path

import pytest
from headwater_store import (
    StoreError,
    StoreUrl,
    open_journals,
    open_leases,
    open_records,
    shown_url,
    sqlite_url,
)
from headwater_store.redis_address import RedisAddress


def test_urls_of_files() -> None:
    assert StoreUrl.parse("sqlite:data") == StoreUrl("sqlite", "data", "process")
    assert StoreUrl.parse("sqlite:/var/lib?durability=power") == StoreUrl("sqlite", "/var/lib", "power")
    assert StoreUrl.parse("sqlite:data?files=2").options == {"files": "2"}
    assert StoreUrl.parse("memory:") == StoreUrl("memory", "")
    odd = Path("/tmp/odd ?#%41 name")
    assert StoreUrl.parse(sqlite_url(odd)).path == str(odd)


@pytest.mark.parametrize(
    ("url", "hosts", "service", "db", "login"),
    [
        ("redis://cache", (("cache", 6379),), "", 0, (None, None)),
        ("redis://cache/", (("cache", 6379),), "", 0, (None, None)),
        ("redis://10.0.0.1:7000/3", (("10.0.0.1", 7000),), "", 3, (None, None)),
        ("redis://[::1]:7000/3", (("::1", 7000),), "", 3, (None, None)),
        ("rediss://[2001:db8::1]", (("2001:db8::1", 6379),), "", 0, (None, None)),
        ("redis://:p%40%2F%3Aq@cache", (("cache", 6379),), "", 0, (None, "p@/:q")),
        ("redis://me:a@b@cache", (("cache", 6379),), "", 0, ("me", "a@b")),
        (
            "redis+sentinel://a:1,b,[::1]:3/main",
            (("a", 1), ("b", 26379), ("::1", 3)),
            "main",
            0,
            (None, None),
        ),
        ("redis+sentinel://me:p@a/main/2", (("a", 26379),), "main", 2, ("me", "p")),
    ],
)
def test_urls_of_servers(
    url: str, hosts: tuple[tuple[str, int], ...], service: str, db: int, login: tuple[str | None, str | None]
) -> None:
    found = RedisAddress.parse(StoreUrl.parse(url))
    assert (found.hosts, found.service, found.db) == (hosts, service, db)
    assert (found.username, found.password) == login
    assert found.tls is url.startswith("rediss:")
    assert (found.replicas, found.aof_checked, found.durability, found.ca) == (0, True, "process", None)


def test_options_of_servers() -> None:
    url = "rediss://a?replicas=2&aof=unchecked&durability=power&ca=/etc/my%20ca.pem"
    found = RedisAddress.parse(StoreUrl.parse(url))
    assert (found.replicas, found.aof_checked, found.durability, found.ca) == (
        2,
        False,
        "power",
        "/etc/my ca.pem",
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data", "expected SCHEME:PATH"),
        ("sqlite:", "expected SCHEME:PATH"),
        (
            "nosuch:data",
            "scheme nosuch: is not known; expected one of memory:, redis:, redis\\+sentinel:, rediss:, sqlite:",
        ),
        ("sqlite:data?durability=magic", "durability=magic: expected durability=process or =power"),
        ("sqlite:data?durability=power&durability=power", "option durability is given twice"),
        ("sqlite:data?speed=1", "option speed is not known; expected durability, files"),
        ("memory:?speed=1", "option speed is not known"),
        ("redis://a?speed=1", "option speed is not known; expected durability, replicas, aof, ca"),
        ("redis://a?replicas=x", "option replicas=x: expected a number from 0 to 16"),
        ("redis://a?aof=off", "option aof=off: expected aof=unchecked, or none"),
        ("redis:a", r"expected redis://"),
        ("redis://", r"expected redis://"),
        ("redis://a/b", r"expected redis://"),
        ("redis://a/1/2", r"expected redis://"),
        ("redis://a:0", r"expected redis://"),
        ("redis://a:66000", r"expected redis://"),
        ("redis://a:", r"expected redis://"),
        ("redis://[::1", r"expected redis://"),
        ("redis://a,b", r"expected redis://"),
        ("rediss://a/x", r"expected rediss://"),
        ("redis+sentinel://a", r"expected redis\+sentinel://.*/SERVICE"),
        ("redis+sentinel://a/main/x", r"expected redis\+sentinel://"),
        ("redis+sentinel://a,/main", r"expected redis\+sentinel://"),
    ],
)
def test_a_url_that_will_not_do_is_refused(url: str, expected: str) -> None:
    for open_one in (
        lambda: open_records(url, "table"),
        lambda: open_leases(url, "sessions"),
        lambda: open_journals(url),
    ):
        with pytest.raises(StoreError, match=expected):
            open_one()


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:s3cr3t@a/x",
        "redis://me:s3cr3t@a:b",
        "redis://:s3cr3t@/1",
        "redis://:p?s3cr3t@a/1",
        "redis://me:s3cr3t/x@a/1?speed=s3cr3t",
        "redis+sentinel://me:s3cr3t@a",
        "nosuch://me:s3cr3t@a",
        "redis://a?password=s3cr3t",
        "redis://me:s3cr3t@a?aof=off",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_journals(url)
    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in shown_url(url)


def test_what_is_parsed_shows_no_password_either() -> None:
    parsed = StoreUrl.parse("redis://me:s3cr3t@a/1?durability=power")
    address = RedisAddress.parse(parsed)
    assert "s3cr3t" not in f"{parsed} {parsed!r} {address} {address!r}"
    assert repr(parsed) == "StoreUrl('redis://***@a/1', 'power')"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel"])
def test_a_missing_client_library_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("redis", "headwater_store.redis_"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)  # An import of it fails as if it were not installed.
    with pytest.raises(StoreError, match=r"install headwater-store\[redis\]"):
        open_journals(f"{scheme}://127.0.0.1:1/service")
