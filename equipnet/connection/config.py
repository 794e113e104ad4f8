"""
What the sections of a configuration file share: the base of all ``[connections.NAME]`` tables, retry, TLS, and kinds.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PositiveInt, model_validator
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer

from equipnet.connection.address import Address, parse_address, parse_listen
from equipnet.connection.retry import RetryPolicy
from equipnet.connection.tls import TLS
from equipnet.interfaces import IConnection, IConnectionKind, INode


class Section(BaseModel):
    """A table of the configuration file: no key but the known ones, and no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


class ConnectionSection(Section):
    """
    What every ``[connections.NAME]`` table may say.

    Parameters
    ----------
    kind
        The sort of connection.
    needs
        Names of connections of this node that this one uses; they are started before it and stopped after it.
    """

    kind: str
    needs: tuple[str, ...] = ()

    def listens_on(self) -> tuple[Address, ...]:
        """Give the addresses that the connection would bind, so that two of them on one port are found early."""
        return ()

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> IConnection:
        """
        Make the connection that this table describes; nothing is opened and nothing is started.

        Parameters
        ----------
        name
            What the connection is called.
        node
            The node it will belong to, for finding the others once it runs.
        folder
            Where the configuration file stands; relative file names in the table start there.
        reactor
            The reactor it will live on.

        Raises
        ------
        EquipmentError, OSError
            When something that the table names cannot be used, such as a certificate that is not there.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is built")


@implementer(IPlugin, IConnectionKind)
@dataclass(frozen=True)
class Kind:
    """
    A kind whose model is imported only when it is used, so that one broken package does not break the others.

    Parameters
    ----------
    name, summary
        As `IConnectionKind` says.
    model
        The full name of the `ConnectionSection` subclass: ``"equipnet.instrument.config.InstrumentSection"``.
    """

    name: str
    summary: str
    model: str

    def section(self) -> type[ConnectionSection]:
        found: type[ConnectionSection] = namedAny(self.model)
        return found


def _address(value: object) -> Address:
    return value if isinstance(value, Address) else parse_address(_text(value))


def _listen_address(value: object) -> Address:
    return value if isinstance(value, Address) else parse_listen(_text(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("an address is a text")
    return value


#: The address of a piece of equipment, as a text in the file (see `parse_address`).
AddressText = Annotated[Address, BeforeValidator(_address, json_schema_input_type=str)]

#: The address of a port to bind, as a text in the file (see `parse_listen`).
ListenText = Annotated[Address, BeforeValidator(_listen_address, json_schema_input_type=str)]


class RetrySection(Section):
    """
    A ``retry`` table: when to try again, as `equipnet.connection.retry.RetryPolicy` says.

    Parameters
    ----------
    initial_delay, factor, maximum, jitter, attempts
        As there.
    """

    initial_delay: float = RetryPolicy.initial_delay
    factor: float = RetryPolicy.factor
    maximum: float = RetryPolicy.maximum
    jitter: float = RetryPolicy.jitter
    attempts: int | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> RetrySection:
        self.policy()
        return self

    def policy(self) -> RetryPolicy:
        """Give the policy that the table describes."""
        return RetryPolicy(self.initial_delay, self.factor, self.maximum, self.jitter, self.attempts)


class FaultSection(Section):
    """
    A ``fault`` table: what a simulator does wrong; a subclass says which fault, and has its parameters as keys.

    Parameters
    ----------
    count
        How many times; always where nothing is given.
    """

    fault_class: ClassVar[type[Any]]
    count: PositiveInt | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> FaultSection:
        self.fault()
        return self

    def fault(self) -> Any:
        """Give the fault that the table describes."""
        return self.fault_class(**self.model_dump(exclude={"count"}))


class TLSSection(Section):
    """
    A ``tls`` table: whom to trust and who we are, as `equipnet.connection.tls.TLS` says.

    Parameters
    ----------
    authority, certificate, key
        PEM files; relative names start where the configuration file stands.
    host_name
        The name that is checked, where it is not the one in the address.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    host_name: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> TLSSection:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self

    def options(self, folder: Path) -> TLS:
        """
        Give the TLS options that the table describes, with files found from ``folder``.

        Raises
        ------
        OSError, ValueError
            When a file cannot be read, or does not hold what it should.
        """
        tls = TLS(
            authority=self.authority and folder / self.authority,
            certificate=self.certificate and folder / self.certificate,
            key=self.key and folder / self.key,
            host_name=self.host_name,
        )
        # They are read again for each connection, so that a new certificate needs no new start; this only looks.
        tls.for_client("localhost")
        return tls


def check_port(listen: Address, tls: TLSSection | None) -> None:
    """Refuse a TLS port without a certificate, which could never be bound; raises ValueError."""
    if listen.scheme == "tls" and (tls is None or tls.certificate is None):
        raise ValueError("a TLS port needs tls = { certificate = ..., key = ... }")


def find_object(name: str, folder: Path) -> Any:
    """
    Give what a configuration file names as ``"package.module:Name"``.

    Parameters
    ----------
    name
        A module, a colon, and what to take from it.
    folder
        Where the configuration file stands; modules beside it come before those that are installed.

    Raises
    ------
    ValueError
        When there is no such thing. What the module itself raises is its ``__cause__``.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(f"{name!r} is not of the form 'package.module:Name'")
    sys.path.insert(0, str(folder.resolve()))
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ValueError(_why_not(name, module_name, error)) from error
    finally:
        sys.path.remove(str(folder.resolve()))
    return found


def _why_not(name: str, module_name: str, error: Exception) -> str:
    """Say why there is no object of that name: it is not there, or its module fails, and where."""
    missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
    if missing or isinstance(error, AttributeError):
        return f"there is no {name!r}: {type(error).__name__}: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    file, line = place.filename, place.lineno
    if isinstance(error, SyntaxError):
        file, line = error.filename or file, error.lineno or line
        return f"{module_name!r} cannot be imported: {file}:{line}: {error.msg}"
    return f"{module_name!r} cannot be imported: {file}:{line}: {type(error).__name__}: {error}"
