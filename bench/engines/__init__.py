"""Loaders and coders, and the three engines that compute: training, arithmetic, measuring."""
