"""Kinds of connections for the tests of the daemon, from the plainest to those that are hard to report about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from equipnet.connection.address import Address, parse_address, parse_listen
from equipnet.connection.config import ConnectionSection, Section
from equipnet.interfaces import IConnectionKind, INode


def _is_address(text: str) -> str:
    parse_address(text)
    return text


class Timers(Section):
    """A table in the table of a meter."""

    t3: float = Field(default=45.0, gt=0)
    t5: int = 10


class Retry(Section):
    """Another, that a meter may also say ``false`` to."""

    maximum: float = 30.0


class Point(Section):
    """What a meter has a list of."""

    x: float
    y: float = 0.0


class Basic(Section):
    """One of two ways to log in."""

    scheme: Literal["basic"]
    user: str
    password: SecretStr


class Bearer(Section):
    """The other."""

    scheme: Literal["bearer"]
    token: SecretStr


class Odd:
    """A value that cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("which part of it?")

    __hash__ = None  # type: ignore[assignment]


class MeterSection(ConnectionSection):
    """A connection that goes out, with everything a table can hold."""

    address: Annotated[str, AfterValidator(_is_address)]
    mode: Literal["active", "passive"] = "active"
    timeout: float = Field(default=5.0, gt=0, le=60)
    size: int = 1
    log: bool = False
    limit: int | bool = 1
    timers: Timers = Timers()
    retry: Retry | Literal[False] = Retry()
    points: tuple[Point, ...] = ()
    limits: dict[str, int] = {}
    login: Annotated[Basic | Bearer, Field(discriminator="scheme")] | None = None
    password: SecretStr | None = None
    serial: str = ""
    files: tuple[Path, ...] = ()
    odd: Annotated[Any, AfterValidator(lambda value: value and Odd())] = None

    @model_validator(mode="after")
    def _careless_check(self) -> MeterSection:
        if self.size == 12:
            raise KeyError("no rule for 12")
        if self.size == 13:
            password = self.password.get_secret_value() if self.password else ""
            raise ValueError(f"size 13 does not go with the password {password}")
        return self

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> Any:
        if self.serial == "gone":
            raise FileNotFoundError(2, "No such file or directory", str(folder / "meter.pem"))
        if self.serial == "told":
            raise ValueError(f"the login {self.password.get_secret_value() if self.password else ''} is refused")
        if self.serial == "bug":
            raise TypeError("build() takes 3 arguments")
        return FakeConnection(name)


class VaultSection(ConnectionSection):
    """A connection that cannot do without a secret."""

    password: SecretStr
    key: int = 0


class ServerSection(ConnectionSection):
    """A connection that listens."""

    listen: str
    also: tuple[str, ...] = ()

    def listens_on(self) -> tuple[Address, ...]:
        return tuple(map(parse_listen, (self.listen, *self.also)))

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> Any:
        return FakeConnection(name)


@implementer(IConnectionKind)
@dataclass(frozen=True)
class FakeKind:
    """A kind as the daemon sees it; one without a model cannot be imported."""

    name: str
    summary: str
    model: type[ConnectionSection] | None

    def section(self) -> type[ConnectionSection]:
        if self.model is None:
            raise ImportError("No module named 'vendor_driver'")
        return self.model


KINDS: dict[str, IConnectionKind] = {
    kind.name: kind
    for kind in (
        FakeKind("broken", "cannot be imported", None),
        FakeKind("meter", "goes out", MeterSection),
        FakeKind("server", "listens", ServerSection),
        FakeKind("vault", "has a secret", VaultSection),
    )
}


@dataclass
class Diary:
    """What happened to the connections of one node, in order."""

    entries: list[str] = field(default_factory=list)

    def take(self) -> list[str]:
        entries, self.entries = self.entries, []
        return entries


class FakeConnection(Service):
    """A connection that closes when the test says so."""

    kind = "fake"

    def __init__(self, name: str, diary: Diary | None = None, faults: Iterable[str] = ()) -> None:
        self.name = name
        self.diary = diary or Diary()
        self.faults = frozenset(faults)
        self.closed: Deferred[None] = Deferred()

    def startService(self) -> None:
        super().startService()
        self.diary.entries.append(f"{self.name} starts")
        if "start" in self.faults:
            raise RuntimeError("no start today")

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self.diary.entries.append(f"{self.name} closes")
        if "stop" in self.faults:
            raise RuntimeError("no end today")
        return self.closed if "slow" in self.faults else None


def fake_kind(diary: Diary) -> FakeKind:
    """Make a kind whose connections are fakes that write into one diary."""

    class FakeSection(ConnectionSection):
        value: int = 0
        faults: tuple[str, ...] = ()

        def build(self, name: str, node: INode, folder: Path, reactor: Any) -> Any:
            diary.entries.append(f"{name} is built")
            if "build" in self.faults:
                raise RuntimeError("no such thing today")
            if "exit" in self.faults:
                raise SystemExit("no such thing ever")
            return 7 if "nothing" in self.faults else FakeConnection(name, diary, self.faults)

    return FakeKind("fake", "for one test", FakeSection)
