"""Models and data from outside, and a model's past."""
