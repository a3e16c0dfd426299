"""Training with a loss per example, and what is counted of it."""
