"""Tests of images on disk, without threads."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from equipnet.imaging.jpeg import JPEG, PNG
from equipnet.imaging.storage import INDEX, TEMPORARY, ImageStore, Retention, StorageFailed, camera_of

#: 2026-11-28 23:59:58.25 UTC, two seconds before a day ends.
EVENING = 1795910398.25


class Pool:
    """A reactor and its thread pool: what is for a thread waits until the test lets it run."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def getThreadPool(self) -> Pool:
        return self

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], None], function: Callable[..., Any], *arguments: Any
    ) -> None:
        def run() -> None:
            try:
                result = function(*arguments)
            except Exception as error:
                on_result(False, error)
            else:
                on_result(True, result)

        self.waiting.append(run)

    def callFromThread(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        function(*arguments, **keywords)

    def run(self) -> None:
        """Let everything run, also what begins meanwhile."""
        while self.waiting:
            self.waiting.pop(0)()


@dataclass(frozen=True)
class Posted:
    """What is stored."""

    sequence: int
    received_at: float = EVENING
    path: str = "/camera1"
    data: bytes = b"0123456789"
    content_type: str = JPEG
    width: int = 5
    height: int = 3
    peer: str = "10.0.0.9:50000"


class StoreCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.pool = Pool()
        self.errors: list[StorageFailed] = []
        self.taken = 0
        self.store = self.new_store()

    def new_store(self, limit: int = 100, **retention: Any) -> ImageStore:
        def taken() -> None:
            self.taken += 1

        return ImageStore(
            self.root, Retention(**retention), limit=limit, reactor=self.pool, failed=self.errors.append, taken=taken
        )

    def put(self, *images: Posted) -> None:
        """Store images, and wait for that."""
        for image in images:
            self.store.put(image)
        self.pool.run()
        self.successResultOf(self.store.when_idle())

    def files(self) -> list[str]:
        """Give the files below the root, without indexes."""
        found = (path for path in self.root.rglob("*") if path.is_file() and path.name != INDEX)
        return sorted(str(path.relative_to(self.root)) for path in found)

    def index(self, folder: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / folder / INDEX).read_text().splitlines()]

    def break_down(self, owner: Any, name: str, number: int, after: Callable[..., object] | None = None) -> Any:
        """Let a function of the system fail, until what is given back is restored."""

        def fail(*arguments: Any, **keywords: Any) -> Any:
            if after is not None:
                after(*arguments, **keywords)
            raise OSError(number, os.strerror(number))

        return self.patch(owner, name, fail)


class NameTests(StoreCase):
    def test_names(self) -> None:
        """
        Files are called by camera, day and time in UTC, and the image's number and type.
        """
        self.put(
            Posted(7), Posted(8, EVENING + 2, content_type=PNG), Posted(9, path="/hutch/2"), Posted(10, 1e9, path="/")
        )
        self.assertEqual(
            self.files(),
            [
                "camera/2001-09-09/014640.000000-10.jpg",
                "camera1/2026-11-28/235958.250000-7.jpg",
                "camera1/2026-11-29/000000.250000-8.png",
                "hutch-2/2026-11-28/235958.250000-9.jpg",
            ],
        )
        self.assertEqual((self.root / self.files()[1]).read_bytes(), b"0123456789")
        self.assertEqual((self.store.stored, self.store.not_stored, self.errors), (4, 0, []))

    def test_no_way_out(self) -> None:
        """
        Whatever a camera posts to, its files are two folders below the root.
        """
        for path, camera in (
            ("/camera1", "camera1"), ("/a/b", "a-b"), ("/a%2f..%2fb", "a-2f..-2fb"), ("/", "camera"), ("", "camera"),
            ("/../../etc", "etc"), ("/..", "camera"), ("/...", "camera"), ("/.ssh/", "ssh"), ("/a?b=/c", "a"),
            ("/a\0b\n", "a-b"), ("/\xe4", "camera"), ("//a\\b", "a-b"), ("/" + "x" * 5000, "x" * 100),
            ("/--", "camera"), ("C:/x", "C-x"), ("*", "camera"), ("/a/../../b", "a-..-..-b"),
        ):  # fmt: skip
            with self.subTest(path=path):
                self.assertEqual(camera_of(path), camera)
                self.put(Posted(1, path=path))
                self.assertTrue((self.root / camera / "2026-11-28" / "235958.250000-1.jpg").is_file())
        self.assertEqual(self.errors, [])

    def test_index(self) -> None:
        """
        Beside the images of a day stands a line of JSON for each of them, in their order.
        """
        self.put(Posted(7), Posted(8, EVENING + 1, content_type=PNG, data=b"png"))
        self.assertEqual(
            self.index("camera1/2026-11-28"),
            [
                {
                    "file": "235958.250000-7.jpg", "at": EVENING, "sequence": 7, "path": "/camera1",
                    "peer": "10.0.0.9:50000", "content_type": "image/jpeg", "width": 5, "height": 3, "bytes": 10,
                },
                {
                    "file": "235959.250000-8.png", "at": EVENING + 1, "sequence": 8, "path": "/camera1",
                    "peer": "10.0.0.9:50000", "content_type": "image/png", "width": 5, "height": 3, "bytes": 3,
                },
            ],
        )  # fmt: skip

    def test_never_a_part(self) -> None:
        """
        A file has its name only when it is whole.
        """
        seen: list[list[str]] = []
        replace = Path.replace

        def watched(path: Path, target: Path) -> Path:
            seen.append(self.files())
            return replace(path, target)

        self.patch(Path, "replace", watched)
        self.put(Posted(7))
        self.assertEqual(seen, [[f"camera1/2026-11-28/{TEMPORARY}235958.250000-7.jpg"]])
        self.assertEqual(self.files(), ["camera1/2026-11-28/235958.250000-7.jpg"])


class QueueTests(StoreCase):
    def test_one_at_a_time(self) -> None:
        """
        Images are written one after the other in another thread, in their order; who asks can wait for that.
        """
        for number in range(5):
            self.store.put(Posted(number))
        idle = [self.store.when_idle() for _ in range(2)]
        self.assertEqual((len(self.pool.waiting), self.root.exists()), (1, False))
        self.pool.waiting.pop()()
        self.assertEqual((len(self.pool.waiting), self.store.stored), (1, 1))
        for each in idle:
            self.assertNoResult(each)
        self.pool.run()
        for each in idle:
            self.successResultOf(each)
        self.assertEqual([line["sequence"] for line in self.index("camera1/2026-11-28")], [0, 1, 2, 3, 4])

    def test_bound(self) -> None:
        """
        No more than the limit wait; another one makes the oldest be forgotten. Each that is taken makes room.
        """
        self.store = self.new_store(limit=2)
        self.store.put(Posted(1))  # this one is being written
        for number in (2, 3):
            self.assertFalse(self.store.full)
            self.store.put(Posted(number))
        self.assertTrue(self.store.full)
        self.store.put(Posted(4))
        taken = self.taken
        self.pool.waiting.pop()()
        self.assertEqual((self.store.full, self.taken), (False, taken + 1))
        self.pool.run()
        self.assertEqual([line["sequence"] for line in self.index("camera1/2026-11-28")], [1, 3, 4])
        self.assertEqual((self.store.dropped, self.store.stored), (1, 3))

    def test_who_is_told_raises(self) -> None:
        """
        What is raised by those who are told is logged, and the next image is stored.
        """

        def fail(*arguments: Any) -> None:
            raise RuntimeError("broken")

        self.break_down(Path, "replace", errno.EIO)
        self.store = ImageStore(self.root, reactor=self.pool, failed=fail, taken=fail)
        self.put(Posted(1), Posted(2))
        self.assertEqual((self.store.not_stored, len(self.flushLoggedErrors(RuntimeError))), (2, 4))

    def test_limit(self) -> None:
        """
        There is room for one at least.
        """
        self.assertEqual(str(self.assertRaises(ValueError, self.new_store, 0)), "limit is 0, less than 1")


class FaultTests(StoreCase):
    def failed(self, text: str, number: int) -> None:
        """Store an image, which fails with a text; nothing of it is left. The next one is stored."""
        self.put(Posted(1))
        (error,) = self.errors
        self.assertEqual(str(error), f"image 1 of /camera1 cannot be stored in {self.root}: {text}")
        assert isinstance(error.__cause__, OSError)
        self.assertEqual((error.__cause__.errno, self.store.stored, self.store.not_stored), (number, 0, 1))

    def test_full_disk(self) -> None:
        """
        A disk that is full is an error for each image; nothing of it stays. When there is room images are stored again.
        """

        def write_half(path: Path, data: bytes) -> None:
            with path.open("wb") as file:
                file.write(data[:5])

        broken = self.break_down(Path, "write_bytes", errno.ENOSPC, write_half)
        self.failed("No space left on device", errno.ENOSPC)
        self.assertEqual(self.files(), [])
        broken.restore()
        self.put(Posted(2))
        self.assertEqual(self.files(), ["camera1/2026-11-28/235958.250000-2.jpg"])

    def test_no_room_for_the_index(self) -> None:
        """
        An image whose line has no room in the index is not stored, and the index has no half of a line.
        """
        self.put(Posted(0, EVENING - 1))
        self.store.stored = 0
        opened = Path.open

        class Full:
            """A file on a disk that takes ten more bytes."""

            def __init__(self, path: Path, *arguments: Any, **keywords: Any) -> None:
                self._file: Any = opened(path, *arguments, **keywords)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                self._file.close()

            def write(self, data: bytes) -> int:
                return int(self._file.write(data[:10]))

            def __getattr__(self, name: str) -> Any:
                return getattr(self._file, name)

        full = self.patch(
            Path, "open", lambda path, *how, **more: (Full if path.name == INDEX else opened)(path, *how, **more)
        )
        self.failed("No space left on device", errno.ENOSPC)
        self.assertEqual(self.files(), ["camera1/2026-11-28/235957.250000-0.jpg"])
        full.restore()
        self.put(Posted(2))
        self.assertEqual([line["sequence"] for line in self.index("camera1/2026-11-28")], [0, 2])

    def test_no_folder(self) -> None:
        """
        Where the folder cannot be made images are not stored; once it can they are.
        """
        self.root.write_text("a file")
        self.failed("Not a directory", errno.ENOTDIR)
        self.root.unlink()
        self.put(Posted(2))
        self.assertEqual(self.files(), ["camera1/2026-11-28/235958.250000-2.jpg"])

    def test_somebody_deletes_everything(self) -> None:
        """
        What somebody else deletes is made again where it is needed, and is no error where it was to be deleted.
        """
        self.store = self.new_store(max_files=1)
        self.put(Posted(1))
        for path in sorted(self.root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.put(Posted(2), Posted(3))
        self.assertEqual((self.files(), self.errors), (["camera1/2026-11-28/235958.250000-3.jpg"], []))

    def test_cannot_delete(self) -> None:
        """
        An old image that cannot be deleted is an error; the new one is stored all the same.
        """
        self.store = self.new_store(max_files=1)
        self.put(Posted(1))
        self.break_down(Path, "unlink", errno.EACCES)
        self.put(Posted(2))
        (error,) = self.errors
        self.assertEqual(str(error), f"an old image in {self.root} cannot be deleted: Permission denied")
        self.assertEqual((self.store.stored, self.store.not_stored, len(self.files())), (2, 0, 2))


class RetentionTests(StoreCase):
    def sequences(self) -> list[int]:
        return sorted(int(name.rpartition("-")[2].partition(".")[0]) for name in self.files())

    def test_files(self) -> None:
        """
        No more than so many images are kept, over all cameras; the oldest go first.
        """
        self.store = self.new_store(max_files=3)
        self.put(*(Posted(number, EVENING + number / 10, f"/camera{number % 2}") for number in range(7)))
        self.assertEqual(self.sequences(), [4, 5, 6])

    def test_bytes(self) -> None:
        """
        No more than so many bytes are kept, but for an image that alone has more.
        """
        self.store = self.new_store(max_bytes=25)
        self.put(*(Posted(number, EVENING + number / 10) for number in range(4)))
        self.assertEqual(self.sequences(), [2, 3])
        self.put(Posted(5, data=bytes(100)))
        self.assertEqual(self.sequences(), [5])
        self.put(Posted(6))
        self.assertEqual(self.sequences(), [6])

    def test_age(self) -> None:
        """
        An image that is older than that by the time of a new one is deleted, and its day with it.
        """
        self.store = self.new_store(max_age=60.0)
        self.put(Posted(1), Posted(2, EVENING + 30), Posted(3, EVENING + 60))
        self.assertEqual(self.sequences(), [1, 2, 3])
        self.put(Posted(4, EVENING + 61))
        self.assertEqual(self.sequences(), [2, 3, 4])
        self.assertFalse((self.root / "camera1/2026-11-28").exists())

    def test_new_start(self) -> None:
        """
        What an earlier run has left counts, by the time in its name; what it had not finished is deleted.
        """
        self.put(*(Posted(number, EVENING + 10 - number) for number in range(1, 5)))
        day = self.root / "camera1/2026-11-29"
        (day / f"{TEMPORARY}000001.000000-9.jpg").write_bytes(b"half")
        os.utime(self.root / self.files()[0], (0, 0))
        self.store = self.new_store(max_files=3)
        self.put(Posted(1, EVENING + 20))
        self.assertEqual(
            self.files(),
            [
                "camera1/2026-11-29/000006.250000-2.jpg",
                "camera1/2026-11-29/000007.250000-1.jpg",
                "camera1/2026-11-29/000018.250000-1.jpg",
            ],
        )

    def test_foreign_files(self) -> None:
        """
        Files and folders that are not called as ours are left alone, however many there are.
        """
        foreign = (
            "notes.txt", "235958.250000-1.jpg", "camera1/235958.250000-1.jpg", "camera1/2026-11-28/notes.txt",
            "camera1/2026-11-28/235958.250000-1.jpeg", "camera1/2026-11-28/.part-x", "camera1/days/235958.250000-1.jpg",
            "camera1/2026-99-99/235958.250000-1.jpg", "old/camera1/2026-11-28/235958.250000-1.jpg",
            "old/camera1/2026-11-28/.part-235958.250000-1.jpg", "2026-11-28/235958.250000-1.jpg",
        )  # fmt: skip
        for name in foreign:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text("mine")
        self.store = self.new_store(max_files=1, max_age=1.0, max_bytes=1)
        self.put(Posted(2), Posted(3, EVENING + 86400))
        self.assertEqual(self.files(), sorted([*foreign, "camera1/2026-11-29/235958.250000-3.jpg"]))
        self.assertEqual(self.errors, [])

    def test_wrong(self) -> None:
        """
        A limit of nothing is refused.
        """
        for key in ("max_files", "max_bytes", "max_age"):
            error = self.assertRaises(ValueError, Retention, **{key: 0})
            self.assertEqual(str(error), f"{key} is 0, not above 0")
