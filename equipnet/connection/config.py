"""
What the sections of a configuration file share: the base of all ``[connections.NAME]`` tables, retry, TLS, and kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from zope.interface import implementer

from equipnet.connection.address import Address
from equipnet.interfaces import IConnection, IConnectionKind, INode

if TYPE_CHECKING:
    from pathlib import Path


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
