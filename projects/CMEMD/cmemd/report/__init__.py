"""A run as one page: what it is, how good it is, and what it sees."""

__all__: list[str] = []
