"""``python -m pkgdata``."""

import sys

from .cli import main

sys.exit(main())
