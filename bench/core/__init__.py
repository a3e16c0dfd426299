"""Nouns and tools: types, records, contracts, the registry, hashing, files, errors. Nothing here imports torch."""
