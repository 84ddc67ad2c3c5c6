"""Draw what ``pkgdata demo`` prints as docs/_static/demo.svg: ``python scripts/picture.py``."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from html import escape
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, LINE, LEFT, TOP = 88, 19, 18, 62


def lines() -> list[str]:
    """Run the demo and return what a terminal of that width shows."""
    done = subprocess.run(
        [sys.executable, "-m", "pkgdata", "demo"],
        env={**os.environ, "COLUMNS": str(COLUMNS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    shown = ["$ pkgdata demo", *done.stdout.strip().splitlines()]
    indent = " " * (shown[1].index("WHAT") if "WHAT" in shown[1] else 4)
    return [
        part
        for line in shown
        for part in textwrap.wrap(line, COLUMNS, subsequent_indent=indent, replace_whitespace=False)
        or [""]
    ]


def kind(line: str) -> str:
    """Return the class of a line: a command, the head, the end, or a row."""
    if line.startswith("$"):
        return "command"
    return "head" if line.startswith("STEP") else "end" if "steps did" in line else "row"


def main() -> None:
    """Write the picture."""
    text = lines()
    rows = "\n".join(
        f'<text class="{kind(line)}" x="{LEFT}" y="{TOP + LINE * number}">{escape(line)}</text>'
        for number, line in enumerate(text)
    )
    template = Template((Path(__file__).parent / "picture.svg").read_text("utf-8"))
    width, height = LEFT * 2 + round(COLUMNS * 8.43), TOP + LINE * len(text)
    (ROOT / "docs" / "_static" / "demo.svg").write_text(
        template.substitute(width=width, height=height, rows=rows), "utf-8"
    )


if __name__ == "__main__":
    main()
