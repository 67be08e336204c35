"""Start the command line by `python -m segstudy`."""

from segstudy.cli import main

raise SystemExit(main())
