"""Weighted sums of checkpoints, tensor by tensor."""
