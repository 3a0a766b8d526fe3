"""Finds the file of a video: names as lists write them are not always those that downloads left on the disk."""

import functools
import os
import re
import unicodedata

# Of the files that FFmpeg reads, those that people keep videos in.
EXTENSIONS = tuple(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .m2v .ts .mts .m2ts .vob .wmv .asf .flv .f4v .3gp .3g2 .ogv .ogg .mxf "
    ".dv .divx .rm .rmvb .y4m .mjpeg .mjpg".split()
)
# Where CVDF's copy of Kinetics-400 keeps repaired files.
REPLACEMENTS = ("replacement_for_corrupted_k400", "replacement/replacement_for_corrupted_k400")
# More than file systems allow.
_MAX_NAME = 1000


class Finder:
    """Finds videos by name. Lists each folder once: looking for each name would ask a slow disk millions of times.

    A video may also be a folder of frames.

    A file fits a name that it starts with if only extensions of videos follow, in capitals or not: `a.mp4`, `a.MP4`
    and `a.mp4.mkv` fit `a`, and the last two fit `a.mp4`. Names are the same in every Unicode normalisation.

    Args:
      tree: trees.DiskTree or tars.TarTree.
    """

    def __init__(self, tree):
        self._tree = tree
        self._listings = {}
        self._labelled = {}

    def by_path(self, path):
        """The files that a path, below the folder or absolute, may stand for: itself if it exists, or those that fit.

        Returns:
          A list of paths, which is empty when there are none.
        """
        for root in self._tree.roots:
            there = os.path.join(root, path)
            folder, name = os.path.split(there)
            listing = self._listing(folder)
            if name in listing.names:
                return [there]
            if fitting := listing.fitting(name):
                return [os.path.join(listing.folder, name) for name in fitting]
        return []

    def by_name(self, name, labels):
        """The files that fit a name without an extension, in the folder or in one named like one of the labels.

        Folders are compared by their letters and digits: `riding_a_bike` is that of "riding a bike". A file in one of
        REPLACEMENTS is taken before all others.

        Args:
          name: of the video.
          labels: list of texts.

        Returns:
          A list of paths, which is empty when there are none.
        """
        replaced = self._named(name, self._replacements)
        return replaced or self._named(name, self._listings_of(tuple(labels)))

    def _named(self, name, listings):
        # A folder of frames may have the name itself.
        return [
            os.path.join(listing.folder, file) for listing in listings for file in listing.fitting(name) if file != name
        ]

    @functools.cached_property
    def _replacements(self):
        """Of the folder and of the one that it is in, as train/ and replacement/ lie side by side."""
        homes = (self._tree.root, os.path.dirname(self._tree.root))
        return [self._listing(os.path.join(home, folder)) for home in homes for folder in REPLACEMENTS]

    def _listings_of(self, labels):
        """Of the folder and of those in it that are named like one of the labels."""
        if labels not in self._labelled:
            listings = []
            for root in self._tree.roots:
                top = self._listing(root)
                folders = dict.fromkeys(folder for label in labels for folder in top.alike(label))
                listings += [top, *(self._listing(os.path.join(root, folder)) for folder in folders)]
            self._labelled[labels] = listings
        return self._labelled[labels]

    def _listing(self, folder):
        if folder not in self._listings:
            folder_there = self._normalised(folder)
            self._listings[folder] = _Listing(folder_there, self._tree.names(folder_there))
        return self._listings[folder]

    def _normalised(self, folder):
        """The folder as the disk writes it: each part of it may be in another normalisation."""
        if self._tree.is_folder(folder):
            return folder
        found = os.sep
        for part in filter(None, folder.split(os.sep)):
            there = os.path.join(found, part)
            if not self._tree.is_folder(there):
                same = self._listing(found).normalised(part)
                if len(same) != 1:
                    return folder
                there = os.path.join(found, same[0])
            found = there
        return found


class _Listing:
    """The names in one folder, ready to be looked up."""

    def __init__(self, folder, names):
        self.folder = folder
        self.names = frozenset(names)

    @functools.cached_property
    def _fitting(self):
        fitting = {}
        for name in sorted(self.names):
            key = _key(name)
            fitting.setdefault(key, []).append(name)
            while (stem := os.path.splitext(key))[1] in EXTENSIONS:
                key = stem[0]
                fitting.setdefault(key, []).append(name)
        return fitting

    @functools.cached_property
    def _alike(self):
        alike = {}
        for name in sorted(self.names):
            alike.setdefault(_letters(name), []).append(name)
        return alike

    def fitting(self, name):
        """The names that are this one, or this one and extensions of videos."""
        return self._fitting.get(_key(name), []) if len(name) <= _MAX_NAME else []

    def normalised(self, name):
        """The names that are this one in another normalisation."""
        wanted = unicodedata.normalize("NFC", name)
        return [found for found in self.fitting(name) if unicodedata.normalize("NFC", found) == wanted]

    def alike(self, name):
        """The names of the same letters and digits."""
        return self._alike.get(_letters(name), []) if _letters(name) else []


def _key(name):
    """The name in one normalisation, and its extensions of videos in small letters."""
    name = unicodedata.normalize("NFC", name)
    extensions = ""
    while (parts := os.path.splitext(name))[1].lower() in EXTENSIONS:
        name, extensions = parts[0], parts[1].lower() + extensions
    return name + extensions


def _letters(name):
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", name)).casefold()
