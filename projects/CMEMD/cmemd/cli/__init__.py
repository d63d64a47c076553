"""The command line: one file per command of `cmemd <command>`."""

__all__: list[str] = []
