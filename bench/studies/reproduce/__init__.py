"""`bench reproduce`: published tables by name, run by the harness and shown beside what was published.

`published` holds the numbers and nothing else, `recipes` how each table is made here, `smoke` tiny stand-ins for models
and data, `run` carries a recipe out, `gate` decides whether the rows count as a reproduction, `page` writes it down.
"""
