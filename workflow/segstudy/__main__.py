"""Start the command line by `python -m segstudy`."""

import signal

from segstudy.cli import main

code = main()
if code == 0:
    # Its results are all there: what stops a run now would have the job fail, and Snakemake remove them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
raise SystemExit(code)
