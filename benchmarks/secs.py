"""
SECS-II: equipnet beside secsgem and the floor of the language, in one run, as ratios.

The floor is what the struct module takes for the same numbers, and for a report a loop that only passes over headers
and cuts out contents. The peer is secsgem, if it is installed. Each figure is the median of rounds that take turns; a
ratio above 1 says that equipnet is faster.
"""

import gc
import random
import statistics
import struct
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from equipnet.secs import BOOLEAN, F4, F8, I2, I4, U1, U2, U4, A, B, Item, L, Message, decode, message_from_sml

functions: Any
variables: Any
try:
    functions = import_module("secsgem.secs.functions")
    variables = import_module("secsgem.secs.variables")
except ImportError:
    functions = variables = None

COUNT = 100_000
ROUNDS = 9


class Row:
    """One line of the table: what is done, by whom in how many seconds, and how long it may take."""

    def __init__(self, what: str, limit: float, **contestants: Callable[[], Any]) -> None:
        self.what = what
        self.limit = limit
        self.contestants = contestants
        self.times: dict[str, list[float]] = {name: [] for name in contestants}
        self.repeats = {name: repeats(contestant) for name, contestant in contestants.items()}

    def round(self) -> None:
        """Time each contestant once."""
        for name, contestant in self.contestants.items():
            gc.collect()
            many = range(self.repeats[name])
            begin = time.perf_counter()
            for _ in many:
                contestant()
            self.times[name].append((time.perf_counter() - begin) / len(many))

    def __str__(self) -> str:
        ours = statistics.median(self.times["equipnet"])
        verdict = (
            "" if not self.limit else f"{'ok' if ours <= self.limit else 'MISSED'}, {self.limit * 1e3:g} ms wanted"
        )
        cells = [f"  {self.what:<42} {ours * 1e3:>9.4f} ms"]
        for name in ("secsgem", "floor"):
            theirs = self.times.get(name)
            if theirs:
                ratio = statistics.median(
                    their / our for their, our in zip(theirs, self.times["equipnet"], strict=True)
                )
                cells.append(f"{statistics.median(theirs) * 1e3:>9.4f} ms {f'({ratio:.3g} x)':>10}")
            else:
                cells.append(" " * 23)
        return " ".join(cells) + "  " + verdict


def repeats(contestant: Callable[[], Any]) -> int:
    """How often something must be done to take about 5 ms."""
    begin = time.perf_counter()
    contestant()
    return max(1, int(0.005 / (time.perf_counter() - begin + 1e-9)))


def skim(data: bytes) -> list[bytes]:
    """Pass over an item and cut out the contents, checking nothing: the least that Python can do."""
    contents = []
    at = 0
    while at < len(data):
        size = data[at] & 3
        length = int.from_bytes(data[at + 1 : at + 1 + size], "big")
        begin = at + 1 + size
        if data[at] & 0xFC:
            contents.append(data[begin : begin + length])
            begin += length
        at = begin
    return contents


def report() -> Item:
    """The text of an S6F11 with 200 variables of mixed types in 16 reports; 257 items."""
    chosen = random.Random(257)
    kinds: list[Callable[[int], Item]] = [
        lambda n: U4(n),
        lambda n: A(f"CHAMBER-{n:04d}"),
        lambda n: F4(n / 7),
        lambda n: U1(n % 256),
        lambda n: BOOLEAN(n % 2 == 0),
        lambda n: I4(-n, n, n + 1),
        lambda n: F8(n / 3),
        lambda n: U2(n),
        lambda n: B(n % 256),
    ]
    values = [chosen.choice(kinds)(n) for n in range(199)]
    values.append(L(*(I2(n) for n in range(5))))
    reports = [L(U4(n), L(values[n * 200 // 16 : (n + 1) * 200 // 16])) for n in range(16)]
    return L(U4(1), U4(100), L(reports))


def count(item: Item) -> int:
    items = 0
    pending = [item]
    while pending:
        items += 1
        each = pending.pop()
        if isinstance(each, L):
            pending.extend(each)
    return items


def array_rows() -> list[Row]:
    numbers = random.Random(100).choices(range(2**32), k=COUNT)
    array = np.array(numbers, np.uint32)
    item = U4(numbers)
    wire = item.to_bytes()
    assert wire == U4(array).to_bytes()
    layout = struct.Struct(f">{COUNT}I")

    def theirs_decoded() -> Any:
        value = variables.U4()
        value.decode(wire)
        return value.get()

    decoding: dict[str, Callable[[], Any]] = {"secsgem": theirs_decoded} if variables else {}
    encoding: dict[str, Callable[[], Any]] = {"secsgem": lambda: variables.U4(numbers).encode()} if variables else {}
    if variables:
        assert theirs_decoded() == numbers
        assert variables.U4(numbers).encode() == wire

    def values() -> Any:
        received = decode(wire)
        assert isinstance(received, U4)
        return received.values

    def native() -> Any:
        received = decode(wire)
        assert isinstance(received, U4)
        return received.to_numpy().astype(np.uint32)

    return [
        Row("U4 x 100,000: decode, not touched", 0.1e-3, equipnet=lambda: decode(wire), **decoding),
        Row("  to Python ints", 3e-3, equipnet=values, floor=lambda: layout.unpack_from(wire, 4), **decoding),
        Row("  to numpy, in the machine's byte order", 0.3e-3, equipnet=native, **decoding),
        Row(
            "  encode from ints",
            2e-3,
            equipnet=lambda: U4(numbers).to_bytes(),
            floor=lambda: layout.pack(*numbers),
            **encoding,
        ),
        Row(
            "  encode from numpy",
            0.3e-3,
            equipnet=lambda: U4(array).to_bytes(),
            floor=lambda: array.astype(">u4").tobytes(),
        ),
    ]


def report_rows() -> list[Row]:
    item = report()
    wire = item.to_bytes()
    message = Message(6, 11, True, item)
    printed = message.to_sml()
    assert decode(wire) == item
    assert message_from_sml(printed) == message
    print(f"S6F11 has {count(item)} items in {len(wire)} bytes.")
    contents = skim(wire)

    decoding: dict[str, Callable[[], Any]] = {}
    encoding: dict[str, Callable[[], Any]] = {}
    if functions:
        theirs = functions.SecsS06F11()
        theirs.decode(wire)
        assert theirs.encode() == wire
        decoding["secsgem"] = lambda: functions.SecsS06F11().decode(wire)
        encoding["secsgem"] = theirs.encode

    return [
        Row("S6F11: decode", 0.25e-3, equipnet=lambda: decode(wire), floor=lambda: skim(wire), **decoding),
        Row("  encode", 0.2e-3, equipnet=item.to_bytes, floor=lambda: b"".join(contents), **encoding),
        Row("  build and encode", 0, equipnet=lambda: report().to_bytes()),
        Row("  print SML", 0, equipnet=message.to_sml),
        Row("  read SML", 0, equipnet=lambda: message_from_sml(printed)),
    ]


def other_rows() -> list[Row]:
    items = L([U4(7)] * 15_000)
    wire = items.to_bytes()
    recipe = bytes(15 * 2**20)
    body = B(recipe).to_bytes()
    return [
        Row("15,001 items: decode", 0, equipnet=lambda: decode(wire), floor=lambda: skim(wire)),
        Row("  encode", 0, equipnet=items.to_bytes),
        Row("B of 15 MiB: decode", 0, equipnet=lambda: decode(body)),
        Row("  encode", 0, equipnet=lambda: B(recipe).to_bytes(), floor=lambda: b"".join((b"head", recipe))),
    ]


def main() -> None:
    peer = version("secsgem") if functions else "is not installed"
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, secsgem {peer}")
    rows = [*array_rows(), *report_rows(), *other_rows()]
    for _ in range(ROUNDS):
        for row in rows:
            row.round()
    print(f"\n  {'':<42} {'equipnet':>12} {'secsgem':>23} {'floor':>23}")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
