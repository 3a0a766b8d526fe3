"""What records ask of whoever writes them: a list of items, and how an item becomes serialised examples."""

import abc
from typing import Any, ClassVar, Protocol


class Item(Protocol):
    """One entry of a list, such as a labelled video.

    Attributes:
      name: what identifies it in the list.
      path: its file.
      labels: the names of its classes.
      annotation: whatever else the list says that decides its examples, of JSON's types.
    """

    name: str
    path: str
    labels: tuple[str, ...]
    annotation: Any


class ExampleMaker(abc.ABC):
    """Makes the serialised examples of items of one kind: a dataclass of its options.

    Worker processes get copies of it and of the items, so all of them pickle.

    Attributes:
      noun: what an item is called; with an s, what several are called.
      bad_item: class of the exceptions that say that an item is bad; their `reason` says why and what to do.
      totals: what the report adds up over the items, each from 0 or [].
      byte_options: names of the options that, with the folder, decide the bytes of the examples.
    """

    noun: ClassVar[str]
    bad_item: ClassVar[type[Exception]]
    totals: ClassVar[dict[str, int | list]] = {}
    byte_options: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def folder(self) -> str:
        """The folder of the items' files."""

    @abc.abstractmethod
    def make(self, item: Item) -> tuple[list[bytes], dict[str, int | list]]:
        """The serialised examples of an item, and what it adds to each of the totals.

        Raises:
          bad_item: it is left out of the records, and reported. Whatever else is raised ends the run.
        """

    def check(self, item: Item) -> dict[str, int | list]:
        """What the item adds to each of the totals; arguments and errors as `make`, which may cost more."""
        return self.make(item)[1]

    def file(self, item: Item) -> str:
        """The file on the disk that a bad item is worth another look for once it changes."""
        return item.path

    def accepts(self, report: dict) -> bool:
        """Whether these options leave a shard as this report says it is; asked of options that decide no bytes."""
        return True

    def bad_parts(self, report: dict) -> dict[str, int]:
        """What is left out of good items and counts with the bad ones: how many of what."""
        return {}

    def remarks(self, report: dict) -> list[str]:
        """Lines for people about the totals of a report."""
        return []

    def start_worker(self) -> None:  # noqa: B027 (few need it)
        """Called once in each worker process."""

    @property
    def plural(self) -> str:
        """What several items are called."""
        return f"{self.noun}s"
