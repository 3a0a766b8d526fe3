"""Checkpoint files of several formats, as named arrays."""
