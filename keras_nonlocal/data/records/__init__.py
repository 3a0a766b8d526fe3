"""Sharded files of records: planned, written by several processes, and each there whole or not at all."""
