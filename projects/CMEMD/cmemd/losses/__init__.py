"""Transport and the losses built on it. The pure functions need nothing but torch."""

__all__: list[str] = []
