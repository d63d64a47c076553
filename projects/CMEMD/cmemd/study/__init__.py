"""What each part of the method does: experiments that you can repeat."""

__all__: list[str] = []
