"""Versions of the engines: part of every key, and apart from the engines so that a key is made without torch.

Raise one when the same arguments give another result.
"""

from __future__ import annotations

TRAINING = 1
"""`bench.engines.training.trainer`: other weights."""
ARITHMETIC = 2
"""`bench.engines.arithmetic.sums`: other weights."""
MEASURE = 3
"""`bench.engines.measuring.measure`: other responses."""
