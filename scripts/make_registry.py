#!/usr/bin/env python3
"""Hash every file below a folder and write a registry, from a source checkout.

usage: python scripts/make_registry.py DIR [-o FILE] [--alg ALG]

The same as ``pkgdata registry make``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pkgdata import cli
from pkgdata.cli.publish import add_make_arguments


def main() -> int:
    """Run the command line.

    Returns
    -------
    int
        Exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_make_arguments(parser)
    parser.parse_args()  # for --help and usage errors under this script's name
    return cli.main(["registry", "make", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
