"""Benchmarks, one file each. Importing this loads none of them."""

TABLE = {
    "tofu": {"lab": "tasks.tofu:LabTofu", "real": "tasks.tofu:RealTofu"},
    "restor": {"lab": "tasks.restor:LabRestor", "real": "tasks.restor:RealRestor"},
    "muse-books": {"lab": "tasks.muse_books:LabMuseBooks", "real": "tasks.muse_books:RealMuseBooks"},
    "books-public-domain": {"real": "tasks.books_public_domain:BooksPublicDomain"},
    "digits": {"lab": "tasks.digits:Digits"},
    "graph": {"lab": "tasks.graph:Graph"},
    "qa": {"real": "tasks.qa:Qa"},
}
"""Name -> tier -> ``module:Class``; a new task is one file and one line here."""
