"""Files and folders that appear whole under their name, or not at all, also when the power fails."""

import contextlib
import os
import shutil


@contextlib.contextmanager
def whole_file(path, temporary=None):
    """Yields a temporary path to write to. The file gets its name when the body ends well, and is removed otherwise.

    Args:
      path: str or os.PathLike, where the file will be; what is there is replaced.
      temporary: str, path in the same folder to write to; default temporary_path(path).
    """
    temporary = temporary or temporary_path(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(_folder(path))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


@contextlib.contextmanager
def whole_folder(path):
    """Yields a temporary folder to fill. It gets its name when the body ends well, and is removed otherwise.

    Args:
      path: str or os.PathLike, where the folder will be.

    Raises:
      OSError: if something other than an empty folder is there by then.
    """
    temporary = temporary_path(path)
    try:
        os.makedirs(temporary)
        yield temporary
        sync_tree(temporary)
        os.rename(temporary, path)
        sync(_folder(path))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already if it was moved


def write_text(path, text, temporary=None):
    """Writes a whole file of text; arguments as those of whole_file."""
    with whole_file(path, temporary) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)


def temporary_path(path):
    """Beside the file, with a name that no pattern of finished files takes and that says which process writes it."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(folder, f".{name}.tmp-{os.getpid()}")


def sync_tree(root):
    """Forces a folder and everything in it to disk."""
    for folder, _, names in os.walk(root):
        for path in [os.path.join(folder, name) for name in names] + [folder]:
            sync(path)


def sync(path):
    """Forces a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folder(path):
    return os.path.dirname(os.path.abspath(path))
