"""docs/failures.md: each row of the failure matrix names a test that is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "failures.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows() -> list[list[str]]:
    """The cells of each row of both tables, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "what fails" and not row[0].startswith("---")]


def test_each_row_names_its_test() -> None:
    assert len(rows()) >= 15
    for row in rows():
        named = _TEST.findall(row[-1])
        assert named, row[0]
        for path, name in named:
            assert (ROOT / path).is_file(), f"{row[0]}: {path}"
            if name:
                assert f"def {name}(" in (ROOT / path).read_text(), f"{row[0]}: {path}::{name}"


def test_the_promised_bounds_are_measured() -> None:
    """A row with a bound in seconds says what was measured."""
    for row in rows():
        if len(row) == 7 and row[2] not in ("", "as long as the cut", "as for a move, all at once"):
            assert row[3] == "as above" or re.match(r"(median )?\d", row[3]), row[0]
