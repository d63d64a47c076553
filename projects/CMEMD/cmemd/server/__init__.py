"""Serve searches of one gallery over HTTP, with one page for people.

``app`` has the routes, ``security`` decides who may call them, ``resident`` holds the model and the
gallery in memory. It takes the packages of ``cmemd[server]``.
"""

__all__: list[str] = []
