"""Benchmarks, one file each. Importing this loads none of them."""

TABLE = {
    "tofu": "tasks.tofu:Tofu",
    "restor": "tasks.restor:Restor",
    "muse-books": "tasks.muse_books:MuseBooks",
    "books-public-domain": "tasks.books_public_domain:BooksPublicDomain",
    "digits": "tasks.digits:Digits",
    "graph": "tasks.graph:Graph",
    "qa": "tasks.qa:Qa",
}
"""Name -> ``module:Class``; a new task is one file and one line here."""
