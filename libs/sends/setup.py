"""Pure Python, unless HEADWATER_COMPILE=1 asks for the loop in C (docs/decisions/0029)."""

import os
import sys

from setuptools import Extension, setup

COMPILED = ("_native",)

ASKED = os.environ.get("HEADWATER_COMPILE", "0") != "0"


def extensions() -> list[Extension]:
    """The compiled modules; none, if nobody asks for them."""
    if not ASKED or {"egg_info", "dist_info"} & set(sys.argv):  # pip asks for names only.
        return []
    if "editable_wheel" in sys.argv:
        raise SystemExit(
            "headwater-sends: HEADWATER_COMPILE is set, but compiled modules beside editable sources would hide what is"
            " edited: install without -e, or without HEADWATER_COMPILE"
        )
    return [Extension(f"headwater_sends.{module}", [f"headwater_sends/{module}.c"]) for module in COMPILED]


setup(ext_modules=extensions())
