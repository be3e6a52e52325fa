"""Pure Python, unless HEADWATER_COMPILE=1 asks for what mypyc makes of the same source (docs/decisions/0026)."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

COMPILED = (
    "aggregate",
    "chunk",
    "chunk_limits",
    "chunk_writer",
    "command",
    "connection",
    "flv",
    "gop",
    "handshake",
    "media",
    "message",
    "shared_object",
    "slots",
)

ASKED = os.environ.get("HEADWATER_COMPILE", "0") != "0"


def extensions() -> list[Extension]:
    """The compiled modules; none, if nobody asks for them."""
    if not ASKED or {"egg_info", "dist_info"} & set(sys.argv):  # pip asks for names only.
        return []
    if "editable_wheel" in sys.argv:
        raise SystemExit(
            "headwater-rtmp: HEADWATER_COMPILE is set, but compiled modules beside editable sources would hide what is"
            " edited: install without -e, or without HEADWATER_COMPILE"
        )
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        raise SystemExit(
            f"headwater-rtmp: HEADWATER_COMPILE is set, but there is no mypyc: {error}"
        ) from error
    # The types of headwater-amf, which need not be installed.
    os.environ.setdefault("MYPYPATH", str(Path(__file__).parents[1] / "amf"))
    files = [f"headwater_rtmp/{module}.py" for module in COMPILED]
    return mypycify(
        ["--strict", "--config-file=", *files], group_name="headwater_rtmp", opt_level="3", debug_level="0"
    )


setup(ext_modules=extensions(), setup_requires=["mypy[mypyc]>=1.11"] if ASKED else [])
