"""Trackers: runs shown live in Weights & Biases, TensorBoard, or whatever is plugged in, behind the same few methods."""
