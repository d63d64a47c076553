"""The two-stream network with multi-granularity heads."""

__all__: list[str] = []
