"""Readers and writers of training data."""
