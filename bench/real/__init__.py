"""The published benchmarks, one folder each."""
