#!/usr/bin/env python3
"""Hash every file below a folder and write a registry, from a source checkout.

usage: python scripts/make_registry.py DIR [-o FILE] [--alg ALG]

The same as ``pkgdata registry make``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pkgdata import cli


def main() -> int:
    """Run the command line.

    Returns
    -------
    int
        Exit code.
    """
    return cli.main(["registry", "make", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
