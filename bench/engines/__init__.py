"""What computes: loaders and coders, and the three engines below them."""
