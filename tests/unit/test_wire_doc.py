"""docs/wire.md is what the code does."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "wire_doc.py"


def test_the_page_is_the_code() -> None:
    module = runpy.run_path(str(SCRIPT))
    page = module["PAGE"].read_text()
    assert module["render"](page) == page, (
        "docs/wire.md differs from the code: run python scripts/wire_doc.py"
    )


def test_every_envelope_says_who_sends_it() -> None:
    module = runpy.run_path(str(SCRIPT))
    for table in (module["TRAFFIC"], module["CONTROL"]):
        for cls in table.values():
            assert cls.__doc__, cls
            assert len(cls.__doc__) > 40, cls
