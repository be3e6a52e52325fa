"""Which build runs: leaf modules of headwater_amf and headwater_rtmp may be compiled (docs/decisions/0026)."""

from typing import Final

from headwater_amf import amf0

from headwater_rtmp import chunk

COMPILED: Final = not any(str(module.__file__).endswith(".py") for module in (amf0, chunk))
"""Whether both packages are compiled."""
BUILD: Final = "compiled" if COMPILED else "pure Python"
"""The same for people."""
