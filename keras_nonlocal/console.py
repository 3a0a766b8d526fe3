"""What a script's console shows."""

import logging


def quiet(flags):
    """Leaves the console to a script's own lines, unless --verbosity asks for TensorFlow's and tfm's log.

    Args:
      flags: absl's FLAGS, parsed.
    """
    from absl import logging as absl_logging

    # tfm turns the verbosity up when it is imported: only the command line tells what the user wants.
    if not flags["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.ERROR)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
