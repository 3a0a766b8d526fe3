"""How large and how thin a frame may be: whatever it is resized to afterwards then fits in memory.

The short side is what gets resized to a given size: 4000 x 1 pixels would become 1,024,000 x 256.
"""

MAX_SOURCE_PIXELS = 4096 * 4096
MAX_ASPECT = 16  # The long side over the short one.


def broken_limit(height: int, width: int) -> str | None:
    """Which limit a frame of this size breaks.

    Args:
      height: pixels.
      width: pixels.

    Returns:
      None, or the limit and the size in words.

    Example:
      >>> broken_limit(1080, 1920)
      >>> broken_limit(1, 4000)
      '4000x1 pixels are too thin: the long side may be at most 16 times the short one'
    """
    if height * width > MAX_SOURCE_PIXELS:
        return f"{width}x{height} pixels are too many: a frame may have at most {MAX_SOURCE_PIXELS:,}"
    if max(height, width) > MAX_ASPECT * min(height, width):
        return f"{width}x{height} pixels are too thin: the long side may be at most {MAX_ASPECT} times the short one"
    return None
