"""`python -m syncyte.cli` is the same as `syncyte`."""

import sys

from syncyte.cli import main

sys.exit(main())
