"""Media files made by real encoders, and the hashes of the packets in them."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg

from support.waiting import TIME_FACTOR

_QUIET = ["-hide_banner", "-loglevel", "error", "-nostdin"]


def newer_ffmpeg() -> str:
    """An ffmpeg that speaks Enhanced RTMP; Debian's does not."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@dataclass(frozen=True, slots=True)
class Codecs:
    """How a test source is encoded. `enhanced`: what ffmpeg must be told to send it by Enhanced RTMP."""

    name: str
    video: tuple[str, ...]
    audio: tuple[str, ...]
    enhanced: str = ""


H264_AAC = Codecs("h264-aac", ("libx264", "-preset", "ultrafast", "-g", "30", "-b:v", "800k"), ("aac",))
HEVC_AAC = Codecs(
    "hevc-aac",
    ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=25"),
    ("aac",),
    "hvc1",
)
AV1_OPUS = Codecs("av1-opus", ("libsvtav1", "-preset", "11", "-g", "25"), ("libopus",), "av01,Opus")


def make_source(ffmpeg: str, codecs: Codecs, seconds: float, folder: Path) -> Path:
    """An FLV file of a moving test picture and a tone."""
    path = folder / f"{codecs.name}.flv"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"]
    tone = ["-f", "lavfi", "-i", "sine=sample_rate=48000"]
    encode = ["-t", str(seconds), "-c:v", *codecs.video, "-c:a", *codecs.audio, "-f", "flv"]
    subprocess.run(
        [ffmpeg, *_QUIET, "-y", *picture, *tone, *encode, str(path)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return path


def start_publisher(
    ffmpeg: str, path: Path, url: str, codecs: Codecs, log: Path, repeated: bool = False
) -> "subprocess.Popen[bytes]":
    """Send a file in real time, its packets as they are; `repeated`: again and again."""
    loop = ["-stream_loop", "-1"] if repeated else []
    enhanced = ["-rtmp_enhanced_codecs", codecs.enhanced] if codecs.enhanced else []
    with open(log, "wb") as output:
        return subprocess.Popen(
            [ffmpeg, *_QUIET, "-re", *loop, "-i", str(path), "-c", "copy", "-f", "flv", *enhanced, url],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def start_recorder(ffmpeg: str, url: str, seconds: float, hashes: Path) -> "subprocess.Popen[bytes]":
    """Play a stream for a while and write a line with the hash of each packet."""
    with open(hashes.with_suffix(".log"), "wb") as output:
        return subprocess.Popen(
            [
                ffmpeg,
                *_QUIET,
                "-y",
                "-i",
                url,
                "-t",
                str(seconds),
                "-map",
                "0",
                "-c",
                "copy",
                "-flush_packets",
                "1",
                "-f",
                "framemd5",
                str(hashes),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def packets_of_file(ffmpeg: str, path: Path) -> dict[str, list[str]]:
    """Hashes of the packets of a media file, by kind of media."""
    done = subprocess.run(
        [ffmpeg, *_QUIET, "-i", str(path), "-map", "0", "-c", "copy", "-f", "framemd5", "-"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60 * TIME_FACTOR,
    )
    return packets(done.stdout.splitlines())


def packet_times_of_file(ffmpeg: str, path: Path) -> dict[str, list[float]]:
    """When the packets of a media file are to be decoded, in s, by kind of media."""
    times: dict[str, list[float]] = {}
    for kind in ("video", "audio"):
        done = subprocess.run(
            [
                ffmpeg,
                *_QUIET,
                "-copyts",
                "-i",
                str(path),
                "-map",
                f"0:{kind[0]}",
                "-c",
                "copy",
                "-f",
                "framecrc",
                "-",
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=60 * TIME_FACTOR,
        )
        lines = done.stdout.splitlines()
        (base,) = (line.partition(": ")[2] for line in lines if line.startswith("#tb 0"))
        numerator, denominator = map(int, base.split("/"))
        rows = [line.split(",") for line in lines if line and not line.startswith("#")]
        times[kind] = [int(row[1]) * numerator / denominator for row in rows]
    return times


def packets(lines: Iterable[str]) -> dict[str, list[str]]:
    """`video` and `audio`: the packets' hashes in order, from ffmpeg's framemd5 format."""
    kinds: dict[str, str] = {}
    found: dict[str, list[str]] = {"video": [], "audio": []}
    for line in lines:
        if line.startswith("#media_type "):
            number, _, kind = line.removeprefix("#media_type ").partition(": ")
            kinds[number] = kind.strip()
        elif line and not line.startswith("#"):
            fields = [field.strip() for field in line.split(",")]
            found[kinds[fields[0]]].append(fields[-1])
    return found


def assert_a_run_of(sent: list[str], received: list[str], at_least: int) -> None:
    """What was received is a part of what was sent, with nothing missing, changed or doubled inside."""
    assert len(received) >= at_least, f"{len(received)} packets, expected {at_least} or more"
    starts = [at for at, value in enumerate(sent) if value == received[0]]
    assert starts, "the first packet was never sent"
    assert any(sent[at : at + len(received)] == received for at in starts), "packets differ from those sent"
