"""Images on disk: a folder for each camera and day, an index beside the images, and limits to what is kept."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
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
    """An image could not be stored, or an old one not deleted; the operating system's error is the ``__cause__``."""


@dataclass(frozen=True)
class Retention:
    """
    How much is kept; what is over a limit is deleted when the next image comes, the oldest first.

    The newest image is kept whatever its size. Lines of an index are deleted with the last image of their day.

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
    looks into a folder sees whole images. The camera is called as the path to which it posts. Files that are not called
    as ours are left alone.

    Parameters
    ----------
    root
        The folder; it is made if need be. No two stores may have the same one.
    retention
        How much is kept.
    limit
        How many images may wait to be written.
    reactor
        Its thread pool writes.
    failed
        Called with a `StorageFailed` for each image that could not be written, and when an old one could not be
        deleted; the next one is tried all the same.
    taken
        Called after there is room for one more.

    Attributes
    ----------
    stored, not_stored
        How many images are on disk, and how many could not be written.
    dropped
        How many were forgotten to make room for newer ones.
    """

    _log = Logger()

    def __init__(
        self,
        root: Path,
        retention: Retention | None = None,
        *,
        limit: int = 100,
        reactor: Any,
        failed: Callable[[StorageFailed], object] = lambda error: None,
        taken: Callable[[], object] = lambda: None,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit is {limit}, less than 1")
        self.root = root
        self.limit = limit
        self.stored = 0
        self.not_stored = 0
        self.dropped = 0
        self._folder = _Folder(root, retention or Retention())
        self._reactor = reactor
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
            Deferred.fromCoroutine(self._write())

    def when_idle(self) -> Deferred[None]:
        """Wait until everything that was put is written or has failed; it does not fail."""
        if not self._writing:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    async def _write(self) -> None:
        while self._waiting:
            image = self._waiting.popleft()
            self._tell(self._taken)
            try:
                problem = await deferToThreadPool(
                    self._reactor, self._reactor.getThreadPool(), self._folder.store, image
                )
            except Exception as error:
                self.not_stored += 1
                self._complain(f"image {image.sequence} of {image.path} cannot be stored in {self.root}", error)
            else:
                self.stored += 1
                if problem is not None:
                    self._complain(f"an old image in {self.root} cannot be deleted", problem)
        self._writing = False
        idle, self._idle = self._idle, []
        for each in idle:
            each.callback(None)

    def _complain(self, what: str, cause: Exception) -> None:
        why = cause.strerror if isinstance(cause, OSError) and cause.strerror else f"{type(cause).__name__}: {cause}"
        error = StorageFailed(f"{what}: {why}")
        error.__cause__ = cause
        self._tell(self._failed, error)

    def _tell(self, whom: Callable[..., object], *what: object) -> None:
        try:
            whom(*what)
        except Exception:
            self._log.failure("storing in {root}: who was told of it raised", root=self.root)


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

    def store(self, image: Storable) -> OSError | None:
        """Delete what is over a limit, and write an image; gives the error of a deletion that failed."""
        if self._kept is None:
            self._look_around()
        moment = time.gmtime(image.received_at)
        folder = self._root / camera_of(image.path) / time.strftime("%Y-%m-%d", moment)
        micros = int(image.received_at % 1 * 1e6)
        ending = ".png" if image.content_type == PNG else ".jpg"
        file = folder / f"{time.strftime('%H%M%S', moment)}.{micros:06d}-{image.sequence}{ending}"
        kept = _Kept(image.received_at, len(image.data), file)
        # That comes first: it may be what makes room on a full disk.
        problem = self._delete_old(kept)
        folder.mkdir(parents=True, exist_ok=True)
        self._write(image, file)
        self._keep(kept)
        return problem

    def _look_around(self) -> None:
        """Find what an earlier run has left."""
        found = sorted(self._find(), key=lambda kept: (kept.at, str(kept.file)))
        self._kept = deque()
        for kept in found:
            self._keep(kept)

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
            _append(file.parent / INDEX, json.dumps(line).encode() + b"\n")
        except OSError:
            for half in (temporary, file):
                with suppress(OSError):
                    half.unlink(missing_ok=True)
            raise

    def _find(self) -> Iterator[_Kept]:
        for name, folders, files in os.walk(self._root):
            folder = Path(name)
            if folder.parent.parent != self._root:
                continue
            folders.clear()
            for file in (folder / each for each in files if _DAY.fullmatch(folder.name)):
                # Somebody else may have deleted it in the meantime, and no month has 99 days.
                with suppress(OSError, ValueError):
                    if _NAME.fullmatch(file.name):
                        yield _Kept(_moment_of(file), file.stat().st_size, file)
                    elif file.name.startswith(TEMPORARY) and _NAME.fullmatch(file.name.removeprefix(TEMPORARY)):
                        file.unlink()  # a daemon that was killed left it

    def _delete_old(self, new: _Kept) -> OSError | None:
        """Delete the oldest images until a new one is within the limits."""
        kept, keep = self._kept, self._retention
        assert kept is not None
        problem = None
        while kept and (
            (keep.max_files is not None and len(kept) >= keep.max_files)
            or (keep.max_bytes is not None and self._bytes + new.size > keep.max_bytes)
            or (keep.max_age is not None and new.at - kept[0].at > keep.max_age)
        ):
            oldest = kept.popleft()
            folder = oldest.file.parent
            self._bytes -= oldest.size
            self._images_in[folder] -= 1
            try:
                oldest.file.unlink(missing_ok=True)
                if not self._images_in[folder]:
                    self._leave(folder)
            except OSError as error:
                problem = error
        return problem

    def _leave(self, folder: Path) -> None:
        """Delete a day's folder, the index with it."""
        del self._images_in[folder]
        (folder / INDEX).unlink(missing_ok=True)
        with suppress(OSError):  # somebody keeps a file of their own there
            folder.rmdir()


def _append(index: Path, line: bytes) -> None:
    """Append a line, or nothing of it."""
    with index.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(end)
            raise


def _moment_of(file: Path) -> float:
    """Give what an image's file says of its time, in seconds since 1970."""
    day = datetime.strptime(file.parent.name, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()
    name = file.name
    return day + int(name[:2]) * 3600 + int(name[2:4]) * 60 + int(name[4:6]) + int(name[7:13]) / 1e6


def camera_of(path: str) -> str:
    """
    Give the folder's name for the path that a camera posts to.

    Anything but letters, digits, ``_``, ``-`` and a dot inside becomes a ``-``, so that no path leads out of the root.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.partition("?")[0]).strip("-.")
    return name[:100] or "camera"
