"""Images on disk: a folder for each camera and day, an index beside the images, and limits to what is kept."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from equipnet.errors import EquipmentError
from equipnet.imaging.jpeg import PNG

#: The file in each day's folder that has a line of JSON for each image, the oldest first.
INDEX = "index.jsonl"

#: What the name of an image's file begins with until all of it is written.
TEMPORARY = ".part-"

# Only what has such a name, in a folder called as a day, is ours to delete.
_NAME = re.compile(r"\d{6}\.\d{6}-\d+\.(?:jpg|png)")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class Storable(Protocol):
    """What an image must have to be stored; `ReceivedImage` has it."""

    @property
    def data(self) -> bytes: ...
    @property
    def content_type(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def received_at(self) -> float: ...
    @property
    def sequence(self) -> int: ...


class StorageFailed(EquipmentError, OSError):
    """An image could not be stored; the operating system's error is the ``__cause__``."""


@dataclass(frozen=True)
class Retention:
    """
    How much is kept; what is over a limit is deleted, the oldest image first.

    Parameters
    ----------
    max_files
        Images, None for any number.
    max_bytes
        Bytes of all images, None for any number.
    max_age
        Seconds, None for ever.
    """

    max_files: int | None = None
    max_bytes: int | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        for key in ("max_files", "max_bytes", "max_age"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise ValueError(f"{key} is {value}, not above 0")


class ImageStore:
    """
    Stores images at ``{root}/{camera}/{date}/{time}-{sequence}.jpg``, in the order in which they are put.

    Date and time are those of the image in UTC. A file has its name only once all of it is written, so that whoever
    looks into a folder sees whole images. The camera is called as the path to which it posts.

    Parameters
    ----------
    root
        The folder; it is made if need be.
    retention
        How much is kept.
    limit
        How many images may wait to be written.
    reactor
        Its thread pool writes.
    written
        Called with each image and its file.
    failed
        Called with a `StorageFailed` for each image that could not be written; the next one is tried all the same.
    taken
        Called after there is room for one more.
    """

    _log = Logger()

    def __init__(
        self,
        root: Path,
        retention: Retention | None = None,
        *,
        limit: int = 100,
        reactor: Any,
        written: Callable[[Storable, Path], object] = lambda image, file: None,
        failed: Callable[[StorageFailed], object] = lambda error: None,
        taken: Callable[[], object] = lambda: None,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}, less than 1")
        self.root = root
        self.limit = limit
        self.dropped = 0
        self._folder = _Folder(root, retention or Retention())
        self._reactor = reactor
        self._written = written
        self._failed = failed
        self._taken = taken
        self._waiting: deque[Storable] = deque()
        self._writing = False
        self._idle: list[Deferred[None]] = []

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._waiting) >= self.limit

    def put(self, image: Storable) -> None:
        """Store an image soon; where there is no room, forget the oldest that is not written yet."""
        if self.full:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(image)
        if not self._writing:
            self._writing = True
            self._write_next()

    def when_idle(self) -> Deferred[None]:
        """Wait until everything that was put is written or has failed; it does not fail."""
        if not self._writing:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def _write_next(self) -> None:
        if not self._waiting:
            self._writing = False
            idle, self._idle = self._idle, []
            for each in idle:
                each.callback(None)
            return
        image = self._waiting.popleft()
        stored = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._folder.store, image)
        stored.addCallbacks(
            lambda file: self._written(image, file), lambda reason: self._not_stored(image, reason.value)
        )
        stored.addErrback(lambda reason: self._log.failure("an observer of stored images raised", reason))
        stored.addCallback(lambda _: self._taken())
        stored.addCallback(lambda _: self._write_next())

    def _not_stored(self, image: Storable, cause: BaseException) -> None:
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else f"{type(cause).__name__}: {cause}"
        error = StorageFailed(f"image {image.sequence} of {image.path} cannot be stored in {self.root}: {reason}")
        error.__cause__ = cause
        self._failed(error)


@dataclass(frozen=True)
class _Kept:
    """One stored image: when it was received in seconds since 1970, its bytes, and its file."""

    at: float
    size: int
    file: Path


class _Folder:
    """The files; all of it runs in a thread, one call at a time."""

    def __init__(self, root: Path, retention: Retention) -> None:
        self._root = root
        self._retention = retention
        self._kept: deque[_Kept] | None = None
        self._bytes = 0
        self._images_in: Counter[Path] = Counter()

    def store(self, image: Storable) -> Path:
        if self._kept is None:
            self._kept = deque()
            for kept in sorted(self._find(), key=lambda kept: (kept.at, str(kept.file))):
                self._keep(kept)
        moment = time.gmtime(image.received_at)
        folder = self._root / camera_of(image.path) / time.strftime("%Y-%m-%d", moment)
        micros = int(image.received_at % 1 * 1e6)
        ending = ".png" if image.content_type == PNG else ".jpg"
        file = folder / f"{time.strftime('%H%M%S', moment)}.{micros:06d}-{image.sequence}{ending}"
        folder.mkdir(parents=True, exist_ok=True)
        self._write(image, file)
        self._keep(_Kept(image.received_at, len(image.data), file))
        self._delete_old(image.received_at)
        return file

    def _keep(self, kept: _Kept) -> None:
        assert self._kept is not None
        self._kept.append(kept)
        self._bytes += kept.size
        self._images_in[kept.file.parent] += 1

    def _write(self, image: Storable, file: Path) -> None:
        temporary = file.with_name(TEMPORARY + file.name)
        line = {
            "file": file.name,
            "at": image.received_at,
            "sequence": image.sequence,
            "path": image.path,
            "peer": image.peer,
            "content_type": image.content_type,
            "width": image.width,
            "height": image.height,
            "bytes": len(image.data),
        }
        try:
            temporary.write_bytes(image.data)
            temporary.replace(file)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        with (file.parent / INDEX).open("a", encoding="utf-8") as index:
            index.write(json.dumps(line) + "\n")

    def _find(self) -> Iterator[_Kept]:
        for folder, _, names in os.walk(self._root):
            for name in names if _DAY.fullmatch(os.path.basename(folder)) else ():
                file = Path(folder, name)
                if _NAME.fullmatch(name.removeprefix(TEMPORARY)) and name.startswith(TEMPORARY):
                    file.unlink(missing_ok=True)  # a daemon that was killed left it
                elif _NAME.fullmatch(name):
                    found = file.stat()
                    yield _Kept(found.st_mtime, found.st_size, file)

    def _delete_old(self, now: float) -> None:
        kept, keep = self._kept, self._retention
        assert kept is not None
        # The newest image is always kept.
        while len(kept) > 1 and (
            (keep.max_files is not None and len(kept) > keep.max_files)
            or (keep.max_bytes is not None and self._bytes > keep.max_bytes)
            or (keep.max_age is not None and now - kept[0].at > keep.max_age)
        ):
            oldest = kept.popleft()
            self._bytes -= oldest.size
            oldest.file.unlink(missing_ok=True)
            self._images_in[oldest.file.parent] -= 1
            if not self._images_in[oldest.file.parent]:
                self._leave(oldest.file.parent)

    def _leave(self, folder: Path) -> None:
        """Delete a day's folder, the index with it."""
        del self._images_in[folder]
        (folder / INDEX).unlink(missing_ok=True)
        with suppress(OSError):  # somebody keeps a file of their own there
            folder.rmdir()


def camera_of(path: str) -> str:
    """
    Give the folder's name for the path that a camera posts to.

    Anything but letters, digits, ``_``, ``-`` and a dot inside becomes a ``-``, so that no path leads out of the root.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.partition("?")[0]).strip("-.")
    return name[:100] or "camera"
