"""The harness: types, contracts, runner and the three engines (arithmetic, training, measure).

Importing ``bench`` loads neither torch nor transformers; the engines do so when they are used.
"""

__version__ = "0.1.0"
