"""The commands about checkpoints, and the export of models."""
