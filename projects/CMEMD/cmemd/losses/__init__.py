"""Transport and the losses built on it."""
