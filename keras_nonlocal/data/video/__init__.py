"""Labelled videos: their lists, their frames, and examples of them."""
