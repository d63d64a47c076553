"""How a run goes: set-up, trainer, tests, checkpoints, and what a run records about itself."""
