"""Pure Python, unless HEADWATER_COMPILE=1 asks for what mypyc makes of the same source (docs/decisions/0026)."""

import os
import sys

from setuptools import Extension, setup

COMPILED = ("amf0", "amf0_writer", "amf3", "amf3_writer", "externalizable", "limits", "source", "text")

ASKED = os.environ.get("HEADWATER_COMPILE", "0") != "0"


def extensions() -> list[Extension]:
    """The compiled modules; none, if nobody asks for them."""
    if not ASKED or {"egg_info", "dist_info"} & set(sys.argv):  # pip asks for names only.
        return []
    if "editable_wheel" in sys.argv:
        raise SystemExit(
            "headwater-amf: HEADWATER_COMPILE is set, but compiled modules beside editable sources would hide what is"
            " edited: install without -e, or without HEADWATER_COMPILE"
        )
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        raise SystemExit(
            f"headwater-amf: HEADWATER_COMPILE is set, but there is no mypyc: {error}"
        ) from error
    files = [f"headwater_amf/{module}.py" for module in COMPILED]
    return mypycify(
        ["--strict", "--config-file=", *files], group_name="headwater_amf", opt_level="3", debug_level="0"
    )


setup(ext_modules=extensions(), setup_requires=["mypy[mypyc]>=1.11"] if ASKED else [])
