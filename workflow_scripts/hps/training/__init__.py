"""A training: its examples, its loop, its checkpoints, its devices."""
