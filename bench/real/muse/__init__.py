"""MUSE-Books: its rows, its suite and its real tier."""
