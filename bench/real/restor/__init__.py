"""RESTOR: its corpus, its rows, its suite and its real tier."""
