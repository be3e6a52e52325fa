"""What tests of the clients of an edge share beside the edge itself."""

import pytest
from headwater_bus.rows import pack_rows

NOTHING = pack_rows([])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(vars(record)["fields"].get("reason")) for record in caplog.records if record.levelno > 20]
