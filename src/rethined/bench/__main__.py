"""`python -m rethined.bench quality ...`: the benchmarks without the rest of the command line."""

import sys

from rethined.bench.cli import bench
from rethined.errors import RethinedError

try:
    bench()
except RethinedError as error:
    sys.exit(f"error: {error}")
