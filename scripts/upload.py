#!/usr/bin/env python3
"""Publish files from a source checkout: upload, write the registry, prove it by downloading again.

usage: python scripts/upload.py DIR --to DEST [options]

The same as ``pkgdata publish``, with the same options.
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
    return cli.main(["publish", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
