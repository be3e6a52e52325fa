"""Writes the envelope tables of docs/wire.md from the code; `--check` only compares (exit status 1 when they differ)."""

import dataclasses
import inspect
import sys
from pathlib import Path

from headwater_bus.control import CONTROL
from headwater_bus.link_signals import Signal
from headwater_bus.traffic import TRAFFIC

PAGE = Path(__file__).parent.parent / "docs" / "wire.md"


def envelope(kind: int, cls: type) -> str:
    """One envelope: number, name, fields with their types, what its docstring says."""
    fields = []
    for field in dataclasses.fields(cls):
        name = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
        fields.append(f"`{field.name}` {'frame' if field.metadata.get('frame') else name}")
    text = " ".join(inspect.cleandoc(cls.__doc__ or "").split())
    return f"### {kind} {cls.__name__}\n\n{', '.join(fields) or 'no fields'}\n\n{text}\n"


def table(kinds: dict[int, type]) -> str:
    """All envelopes of one table, in the order of their numbers."""
    return "\n".join(envelope(kind, cls) for kind, cls in sorted(kinds.items()))


def signals() -> str:
    """The header frames of a link, from the comments behind the enum's members."""
    lines = inspect.getsource(Signal).splitlines()
    rows: list[str] = []
    for line in lines[2:]:
        text = line.strip().strip('"')
        if " = " in text and text.split(" = ")[0].isupper():
            rows.append(f"- `{text.split(' = ')[0]}` ")
        elif rows and text:
            rows[-1] += text + " "
    return "\n".join(row.rstrip() for row in rows) + "\n"


def render(page: str) -> str:
    """The page with its generated parts, each between `<!-- NAME -->` and `<!-- end -->`, made anew."""
    for name, text in (("signals", signals()), ("traffic", table(TRAFFIC)), ("control", table(CONTROL))):
        head, rest = page.split(f"<!-- {name} -->\n", 1)
        _, tail = rest.split("<!-- end -->", 1)
        page = f"{head}<!-- {name} -->\n{text}<!-- end -->{tail}"
    return page


def main() -> int:
    """Write the page, or compare it."""
    page = PAGE.read_text()
    made = render(page)
    if "--check" in sys.argv:
        if made != page:
            print("docs/wire.md differs from the code: run python scripts/wire_doc.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
