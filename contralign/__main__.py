"""`python -m contralign`, which is also what `accelerate launch -m contralign` runs."""

from __future__ import annotations

import sys

from contralign.cli import main

sys.exit(main())
