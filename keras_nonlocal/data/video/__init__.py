"""Labelled videos: their lists, their frames, and records of them."""
