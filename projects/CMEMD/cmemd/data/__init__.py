"""What training reads: layouts of data sets, their builders, images and batches."""

__all__: list[str] = []
