"""The two-stream network with multi-granularity heads."""
