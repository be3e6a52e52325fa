"""The benchmark of compiled modules: what it times does what it says, and its figures are medians."""

import pytest

from bench.leaf import cells
from bench.leaf_cases import STREAM, cases


@pytest.mark.parametrize("name", list(cases()))
def test_every_operation_runs(name: str) -> None:
    operations, run = cases()[name]
    assert operations >= 1
    run()
    run()


def test_the_stream_is_one_second_of_one_megabit() -> None:
    assert len(STREAM) == 73
    assert sum(len(message.payload) for message in STREAM) * 8 == pytest.approx(1e6, rel=0.05)


def test_cells_are_medians_and_ratios_within_a_run() -> None:
    runs = [
        {"pure": {"read": 1000.0}, "compiled": {"read": 200.0}},
        {"pure": {"read": 3000.0}, "compiled": {"read": 500.0}},
        {"pure": {"read": 1200.0}, "compiled": {"read": 300.0}},
    ]
    assert cells("read", runs) == ("read", "1,200", "300", "5.0")
