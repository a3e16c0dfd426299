"""TOFU: its rows and its suite."""
