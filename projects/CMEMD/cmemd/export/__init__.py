"""From a checkpoint to a model folder that needs neither fast-reid nor this package."""
