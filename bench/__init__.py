"""The harness: types, contracts, runner and the three engines (arithmetic, training, measure).

Importing ``bench`` loads neither torch nor transformers; the engines do so when they are used.
"""

import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # `python -m bench` begins: signals are heeded from here on
    from bench.core.signals import guard_signals

    guard_signals()
