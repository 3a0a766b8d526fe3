"""Safetensors files: a header of JSON, then the numbers."""

from keras_nonlocal.weights.formats.values import MAX_ENTRIES, CheckpointError, shown


def read(path):
    """{name: array} and {name: text} of a file's tensors and its metadata.

    Raises:
      CheckpointError: for a file that is damaged or has types that NumPy has not, or without safetensors installed.
    """
    try:
        import safetensors
    except ImportError:
        raise CheckpointError("It is a safetensors file: `pip install 'keras_nonlocal[convert]'` to read it.") from None
    try:
        with safetensors.safe_open(path, framework="np") as file:
            names = file.keys()
            if len(names) > MAX_ENTRIES:
                raise CheckpointError(f"It has more than {MAX_ENTRIES} tensors: refused.")
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as e:
        # Among them that of a type of numbers that NumPy does not have, as one of 8 bits.
        raise CheckpointError(f"It is a safetensors file that cannot be read ({shown(str(e))}).") from None
