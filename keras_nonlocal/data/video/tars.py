"""Videos and folders of frames in tar files, read where they are: nothing is unpacked.

Each tar is read through once, in its order, for the places of its members; each video is then one piece of a file.
"""

import dataclasses
import glob
import os
import posixpath
import re
import tarfile

from keras_nonlocal.data import texts
from keras_nonlocal.errors import UserError

_EXTENSION = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$", re.I)
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_TARS = 100_000
_JPEG = re.compile(r".*\.jpe?g", re.I)
_BLOCK = 512


def is_tar(path):
    """Whether a path stands for tar files."""
    return bool(_EXTENSION.search(path))


@dataclasses.dataclass(frozen=True)
class Stored:
    """A member of tars, or the frames of a folder in them.

    Args:
      path: in the tar.
      parts: tuple of (tar, start, end) of the bytes that hold it, headers included.
      is_folder: whether it is the frames of a folder.
    """

    path: str
    parts: tuple
    is_folder: bool

    @property
    def tar(self):
        """The (first) tar."""
        return self.parts[0][0]

    def members(self, largest=None):
        """Yields the name and the bytes of each.

        Raises:
          UserError: the tar cannot be read, is not what it was when its members were looked up, or a member has more
            bytes than `largest`.
        """
        for tar, start, end in self.parts:
            try:
                with open(tar, "rb") as file:
                    file.seek(start)
                    with tarfile.open(fileobj=file, mode="r:") as opened:
                        for member in opened:
                            if member.offset >= end:
                                break
                            yield self._read(opened, member, largest)
            except (tarfile.TarError, OSError) as error:
                raise UserError(
                    f"tar {tar} cannot be read at byte {start} ({error}); if it has changed, run the command again"
                ) from error

    def _read(self, opened, member, largest):
        name = posixpath.normpath(member.name)
        if (posixpath.dirname(name) if self.is_folder else name) != self.path or not member.isfile():
            raise tarfile.ReadError(f"{texts.plain(name)} is there now")
        if largest is not None and member.size > largest:
            raise tarfile.ReadError(f"{texts.plain(name)} has more than {largest:,} bytes")
        return posixpath.basename(name), opened.extractfile(member).read()


class TarTree:
    """The members of tar files as one tree of folders.

    Args:
      pattern: path of a tar; may hold `{000..099}`, `*` and `?`.

    Raises:
      UserError: there is no such file, it is damaged or compressed, or holds links, devices, or paths that lead out of
        a folder.
    """

    def __init__(self, pattern):
        self.root = os.path.abspath(pattern)
        # {folder: {name: (number of its tar, start, end)}}, and those of the JPEGs of a folder joined to few pieces: an
        # entry for each of Charades' seven million frames would fill the memory.
        self._folders = {"": {}}
        self._frames = {}
        self._tars = _expand(pattern)
        for number, tar in enumerate(self._tars):
            for name, start, end in _places(tar):
                self._add(number, name, start, end)

    @property
    def roots(self):
        """The folders that paths of a list may start from: the outermost one, and those that hold all there is."""
        inside, roots = "", [self.root]
        while len(self._folders[inside]) == 1 and inside not in self._frames:
            inside = posixpath.join(inside, *self._folders[inside])
            if inside not in self._folders:
                break
            roots.append(os.path.join(self.root, inside))
        return roots

    def names(self, folder):
        """What is in a folder, but for JPEGs; nothing where there is none."""
        return list(self._folders.get(self._inside(folder), ()))

    def is_folder(self, path):
        """Whether it is one."""
        return self._inside(path) in self._folders

    def has_frames(self, folder):
        """Whether a folder holds JPEGs."""
        return self._inside(folder) in self._frames

    def files(self):
        """Yields the path of each file that is no JPEG, in the order of the tars."""
        places = [
            (place, posixpath.join(folder, name))
            for folder, names in self._folders.items()
            for name, place in names.items()
            if place
        ]
        for _, path in sorted(places):
            yield os.path.join(self.root, path)

    def stored(self, path):
        """Where the tars hold a file, or the frames of a folder; None where they hold neither."""
        inside = self._inside(path)
        folder, name = posixpath.split(inside or "")
        place = self._folders.get(folder, {}).get(name)
        places = [place] if place else self._frames.get(inside, ())
        parts = tuple((self._tars[number], start, end) for number, start, end in places)
        return Stored(inside, parts, is_folder=not place) if parts else None

    def _inside(self, path):
        """The path in the tars, or None."""
        if path == self.root:
            return ""
        return path[len(self.root) + 1 :] if path.startswith(self.root + os.sep) else None

    def _add(self, number, name, start, end):
        folder, base = posixpath.split(name)
        self._add_folder(folder)
        if _JPEG.fullmatch(base):
            places = self._frames.setdefault(folder, [])
            if places and places[-1][::2] == (number, start):
                places[-1] = (number, places[-1][1], end)
            else:
                places.append((number, start, end))
        elif base in self._folders[folder] and self._folders[folder][base][0] != number:
            other = self._tars[self._folders[folder][base][0]]
            raise UserError(f"{texts.plain(name)} is in tar {other} and in {self._tars[number]}; leave one of them out")
        else:  # Of two in one tar the last one is what unpacking leaves.
            self._folders[folder][base] = (number, start, end)

    def _add_folder(self, folder):
        if folder not in self._folders:
            self._folders[folder] = {}
            outer, base = posixpath.split(folder)
            self._add_folder(outer)
            self._folders[outer][base] = None


def _expand(pattern):
    """The files that a pattern stands for, in its order."""
    paths = [os.fspath(pattern)]
    while any(_BRACES.search(path) for path in paths):
        paths = [text for path in paths for text in _expand_braces(path)]
        if len(paths) > _MAX_TARS:
            raise UserError(f"{pattern} stands for more than {_MAX_TARS:,} files; correct the numbers in its braces")
    found = []
    for path in paths:
        fitting = [path] if os.path.isfile(path) else sorted(glob.glob(path))
        if not fitting:
            raise UserError(f"tar {path} does not exist; check the path")
        found += fitting
    return list(dict.fromkeys(found))


def _expand_braces(path):
    match = _BRACES.search(path)
    if not match:
        return [path]
    first, last = match.groups()
    numbers = range(int(first), min(int(last), int(first) + _MAX_TARS) + 1)
    return [f"{path[: match.start()]}{number:0{len(first)}d}{path[match.end() :]}" for number in numbers]


def _places(tar):
    """Yields the path of each file in a tar, and the start and the end of its bytes."""
    try:
        with tarfile.open(tar, "r:") as members:
            while (member := members.next()) is not None:
                members.members = []  # It keeps them all, and there may be millions.
                _check_member(tar, member)
                if member.isfile():
                    name = posixpath.normpath(member.name)
                    yield name, member.offset, members.offset
            end = members.offset
        with open(tar, "rb") as file:  # tarfile takes a damaged header for the end.
            file.seek(end)
            if file.read(_BLOCK).strip(b"\0"):
                raise UserError(f"tar {tar} is damaged at byte {end}; download it again")
    except tarfile.TarError as error:
        with open(tar, "rb") as file:
            head = file.read(6)
        if head[:2] == b"\x1f\x8b" or head[:3] == b"BZh" or head == b"\xfd7zXZ\0":
            raise UserError(f"tar {tar} is compressed, so nothing in it can be found quickly; unpack it") from error
        raise UserError(f"tar {tar} cannot be read ({error}); download it again") from error
    except OSError as error:
        raise UserError(f"tar {tar} cannot be read ({error.strerror}); check the path") from error


def _check_member(tar, member):
    name = texts.plain(member.name)
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise UserError(f"tar {tar} holds {name}, a path that leads out of its folder; make it again without such")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise UserError(f"tar {tar} holds {name}, a link, device or file with holes; make it again without it")
