"""What the ends say of themselves at connect (Enhanced RTMP v2)."""

import math
from typing import Any

import pytest
from headwater_amf import EcmaArray, amf0
from headwater_rtmp.capabilities import Capabilities, CapsEx, parse_capabilities, relay_capabilities


@pytest.mark.parametrize("container", [dict, EcmaArray])
def test_capabilities_of_a_client(container: Any) -> None:
    # Enhanced RTMP v2: an Object or an ECMA array.
    capabilities = parse_capabilities(
        container(
            {
                "app": "live",
                "fourCcList": ["hvc1", "av01", 7.0],
                "videoFourCcInfoMap": container({"*": 4.0, "av01": 5.0, "bad": "x"}),
                "audioFourCcInfoMap": container({"Opus": 1.0}),
                "capsEx": 3.0,
            }
        )
    )
    assert capabilities.enhanced
    assert capabilities.fourcc == {"hvc1", "av01"}
    assert capabilities.video == {"*": 4, "av01": 5}
    assert capabilities.audio == {"Opus": 1}
    assert capabilities.caps_ex == 3


@pytest.mark.parametrize("value", [None, {}, "x", {"app": "live"}])
def test_a_classic_client_has_none(value: Any) -> None:
    assert not parse_capabilities(value).enhanced


@pytest.mark.parametrize("caps", [math.nan, math.inf, -1.0, "x", None, 1e300])
def test_nonsense_capabilities_count_as_none(caps: Any) -> None:
    assert parse_capabilities({"capsEx": caps, "fourCcList": 5.0, "videoFourCcInfoMap": [1.0]}).caps_ex == 0


def test_a_relay_forwards_everything() -> None:
    answer = relay_capabilities()
    assert answer["fourCcList"] == ["*"]
    assert answer["capsEx"] == 15.0
    assert answer["videoFourCcInfoMap"] == answer["audioFourCcInfoMap"] == {"*": 4.0}
    assert amf0.decode(amf0.encode(answer))[0] == answer


def test_what_ffmpeg_says() -> None:
    # The connect of ffmpeg 9 with -rtmp_enhanced_codecs hvc1,av01,vp09, captured on loopback: nothing but the list.
    said = parse_capabilities(
        {
            "app": "live",
            "fourCcList": ["hvc1", "av01", "vp09"],
            "type": "nonprivate",
            "flashVer": "FMLE/3.0 (compatible; Lavf63.1.102)",
            "tcUrl": "rtmp://127.0.0.1/live",
        }
    )
    assert said == Capabilities(True, frozenset({"hvc1", "av01", "vp09"}))


def test_every_bit() -> None:
    for bit in CapsEx:
        assert parse_capabilities({"capsEx": float(bit)}).caps_ex is bit
    assert parse_capabilities({"capsEx": 255.0}).caps_ex == 15


@pytest.mark.parametrize("bits", [math.nan, math.inf, -1.0, 256.0, "4", None, [4.0], {}])
def test_nonsense_in_a_codec_map_is_left_out(bits: Any) -> None:
    assert parse_capabilities({"videoFourCcInfoMap": {"av01": bits, "hvc1": 2.0}}).video == {"hvc1": 2}


def test_lists_are_cut() -> None:
    said = parse_capabilities(
        {
            "fourCcList": [f"{n:04}" for n in range(1000)],
            "audioFourCcInfoMap": {f"{n:04}": 1.0 for n in range(1000)},
        }
    )
    assert len(said.fourcc) == len(said.audio) == 64
