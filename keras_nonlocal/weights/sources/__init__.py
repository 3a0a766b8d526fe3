"""Who writes checkpoints of these networks: one file for each source, and the table of them."""

from keras_nonlocal import errors
from keras_nonlocal.weights.formats.values import CheckpointError, shown
from keras_nonlocal.weights.sources import mmaction2, official, own, slowfast

# In the order in which they are recognised, and in which their dict of tensors is looked for in a file.
SOURCES = {
    source.name: source for source in (official.Official(), slowfast.SlowFast(), mmaction2.MMAction2(), own.Own())
}


def find(tensors, name="auto"):
    """The Source of a file.

    Args:
      tensors: names of its tensors, or a dict with such keys.
      name: "auto" to recognise it by them, or of the source that it must be.

    Raises:
      UserError: if there is no source of this name.
      CheckpointError: if the names are those of no source, or of another one.
    """
    if name != "auto" and name not in SOURCES:
        raise errors.UserError(f"`source` must be 'auto' or one of {list(SOURCES)}. Received: source={name!r}")
    found = next((source for source in SOURCES.values() if source.recognises(tensors)), None)
    if name == "auto":
        if found is None:
            raise CheckpointError(
                f"Its names, such as {shown(next(iter(tensors)), 60)}, are those of none of {', '.join(SOURCES)}; give "
                "`source` if it is of one of them all the same."
            )
        return found
    if found is not None and name not in (found.name, *found.also_of):
        raise CheckpointError(f"Its names are those of {found.name}, but `source` says {name!r}.")
    return SOURCES[name]


def state_keys():
    """Where in a file its dict of tensors may be, in the order in which they are looked for."""
    return [source.state_key for source in SOURCES.values() if source.state_key]


def accepted():
    """The files that are read, in words."""
    files = [f"{source.files} of {source.title}" for source in SOURCES.values() if source.files]
    return f"{', '.join(files)}, or .safetensors with the names of one of them or our own"
