"""Keep embeddings in a gallery, a LanceDB table, and search it; faiss does exact search.

Importing this package or its modules loads neither torch, fast-reid, faiss nor LanceDB. Opening a
gallery checks that the packages it needs are installed.
"""

__all__: list[str] = []
