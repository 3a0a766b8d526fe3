"""The demo "did the same thing come back?": its clips, its networks and its pictures. What `make demo` uses."""
