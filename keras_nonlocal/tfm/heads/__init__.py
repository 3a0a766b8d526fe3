"""Heads of detectors that tfm has not."""
