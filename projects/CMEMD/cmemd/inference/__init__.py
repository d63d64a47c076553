"""Using a trained network: model folders, embedding images, the model zoo.

Nothing here imports torch or fast-reid before a PyTorch program is asked for.
"""
