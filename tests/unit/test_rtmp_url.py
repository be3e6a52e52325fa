"""Addresses and application names."""

import pytest
from headwater_rtmp.url import parse_rtmp_url, split_app


@pytest.mark.parametrize(
    ("url", "host", "port", "app", "stream", "tc_url"),
    [
        # As FFmpeg's rtmpproto takes addresses apart.
        ("rtmp://h/live/a", "h", 1935, "live", "a", "rtmp://h/live"),
        ("rtmp://h:1936/live/a", "h", 1936, "live", "a", "rtmp://h:1936/live"),
        ("rtmp://h/chat/lobby/a", "h", 1935, "chat/lobby", "a", "rtmp://h/chat/lobby"),
        ("rtmp://h/chat/lobby/a/b", "h", 1935, "chat/lobby", "a/b", "rtmp://h/chat/lobby"),
        ("rtmp://h/live/a?key=1", "h", 1935, "live", "a?key=1", "rtmp://h/live"),
        ("rtmp://h/live", "h", 1935, "live", "", "rtmp://h/live"),
        ("rtmps://[::1]/live/a", "::1", 443, "live", "a", "rtmps://[::1]/live"),
        ("rtmpt://h/live/a", "h", 80, "live", "a", "rtmpt://h/live"),
        ("rtmps://h:1935/live/a", "h", 1935, "live", "a", "rtmps://h:1935/live"),
        ("rtmp://h/vod/mp4:dir/a.mp4", "h", 1935, "vod", "mp4:dir/a.mp4", "rtmp://h/vod"),
        ("rtmp://h/vod/x/mp4:dir/a.mp4", "h", 1935, "vod/x", "mp4:dir/a.mp4", "rtmp://h/vod/x"),
        ("rtmp://h", "h", 1935, "", "", "rtmp://h/"),
        ("rtmp://h/live/a?token=x/y", "h", 1935, "live", "a?token=x/y", "rtmp://h/live"),
        ("rtmp://h/live?token=x/a", "h", 1935, "live?token=x", "a", "rtmp://h/live?token=x"),
        ("rtmp://h/live?token=x/a/b?key=1", "h", 1935, "live?token=x", "a/b?key=1", "rtmp://h/live?token=x"),
        ("rtmp://h/live?token=x/", "h", 1935, "live?token=x", "", "rtmp://h/live?token=x"),
    ],
)
def test_addresses(url: str, host: str, port: int, app: str, stream: str, tc_url: str) -> None:
    parsed = parse_rtmp_url(url)
    assert (parsed.host, parsed.port, parsed.app, parsed.stream, parsed.tc_url) == (
        host,
        port,
        app,
        stream,
        tc_url,
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://h/live/a",
        "rtmp:///live/a",
        "rtmp://h:99999/live/a",
        "live/a",
        "rtmp://[::1/live/a",
        "rtmp://h:0/live/a",
        "rtmpe://h/live/a",
        "",
        "rtmp://h:x/a",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected rtmp://HOST\[:PORT\]/APP\[/INSTANCE\]/STREAM"):
        parse_rtmp_url(url)


@pytest.mark.parametrize(
    ("app", "parts"),
    [
        ("live", ("live", "_definst_")),
        ("live/", ("live", "_definst_")),
        ("live?token=x", ("live", "_definst_")),
        ("chat/lobby", ("chat", "lobby")),
        ("chat/lobby?x=/y", ("chat", "lobby")),
        ("chat/eu/lobby", ("chat", "eu/lobby")),
    ],
)
def test_applications(app: str, parts: tuple[str, str]) -> None:
    assert split_app(app) == parts


@pytest.mark.parametrize("app", ["", "?x", "/", "../etc", "chat/..", "chat/a b", "chat/x//y", "a" * 129])
def test_what_is_no_application(app: str) -> None:
    with pytest.raises(ValueError, match="application"):
        split_app(app)


def test_without_a_stream_the_path_is_the_application() -> None:
    assert parse_rtmp_url("rtmp://h/chat/eu/lobby?key=1", with_stream=False).app == "chat/eu/lobby?key=1"
    with pytest.raises(ValueError, match=r"/APP\[/INSTANCE\], of rtmp, rtmps, rtmpt, rtmpts$"):
        parse_rtmp_url("x", with_stream=False)
