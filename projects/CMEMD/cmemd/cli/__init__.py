"""The command line: one file per command of `cmemd <command>`."""
