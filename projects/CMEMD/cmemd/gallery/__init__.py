"""Keep embeddings in a gallery, a LanceDB table, and search it; faiss does exact search.

Importing this package and its modules loads none of torch, fast-reid, faiss and LanceDB. Opening a
gallery checks that the packages it needs are installed.
"""

__all__: list[str] = []
