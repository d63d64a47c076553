"""Turn a checkpoint into a model folder that needs neither fast-reid nor this package."""

__all__: list[str] = []
