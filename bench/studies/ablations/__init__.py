"""Ablations: what decides whether a method works, each a set of runs, a table and a picture.

An ablation is a list of `Point`s; each is a run with some coordinates, made for every seed by the same workers, the
same store and the same records as `bench run`. Table and picture are functions of the finished records alone.
"""

FOLDER = "ablations"
"""Of the studies, below runs and results alike; their runs are in ``runs`` inside, shared by all of them."""
