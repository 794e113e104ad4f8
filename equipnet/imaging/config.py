"""The section of the configuration file for a JPEG receiver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, IPvAnyNetwork, SecretStr, model_validator

from equipnet.connection.address import Address
from equipnet.connection.config import ConnectionSection, ListenText, RetrySection, Section, TLSSection, check_port
from equipnet.http.size import Size
from equipnet.imaging.receiver import JpegReceiver, WhenFull, check_credentials, check_path
from equipnet.imaging.storage import Retention
from equipnet.interfaces import INode


class StoreSection(Section):
    """
    A ``store`` table: where images are stored, and how many of them.

    Parameters
    ----------
    root
        The folder; a relative name starts where the configuration file stands.
    max_files, max_bytes, max_age
        As `Retention` says.
    """

    root: Path
    max_files: int | None = Field(default=None, ge=1)
    max_bytes: Size | None = None
    max_age: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def retention(self) -> Retention:
        """Give what the table says of how much is kept."""
        return Retention(self.max_files, self.max_bytes, self.max_age)


class JpegReceiverSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of kind ``jpeg-receiver``.

    Parameters
    ----------
    listen, max_size, max_connections, idle_timeout, request_timeout, allowed, paths, token, username, password
        As `JpegReceiver` says.
    when_full
        As `JpegReceiver` says.
    store
        Where images are stored; nowhere without it.
    tls
        The certificate of a ``tls:`` port.
    retry
        When to try again to bind the port.
    """

    kind: Literal["jpeg-receiver"]
    listen: ListenText
    max_size: Size = 20 * 2**20
    max_connections: int = Field(default=100, ge=1)
    idle_timeout: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    request_timeout: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    allowed: tuple[IPvAnyNetwork, ...] = ()
    paths: tuple[Annotated[str, AfterValidator(check_path)], ...] = ()
    token: SecretStr | None = None
    username: str | None = None
    password: SecretStr | None = None
    when_full: WhenFull = "wait"
    store: StoreSection | None = None
    tls: TLSSection | None = None
    retry: RetrySection = RetrySection()

    @model_validator(mode="after")
    def _fits_together(self) -> JpegReceiverSection:
        if self.listen.scheme == "udp":
            raise ValueError("HTTP does not go over UDP")
        check_port(self.listen, self.tls)
        check_credentials(None if self.token is None else self.token.get_secret_value(), self.username)
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        return self

    def listens_on(self) -> tuple[Address, ...]:
        return (self.listen,)

    def build(self, name: str, node: INode, folder: Path, reactor: Any) -> JpegReceiver:
        return JpegReceiver(
            self.listen,
            name=name,
            max_size=self.max_size,
            max_connections=self.max_connections,
            idle_timeout=self.idle_timeout,
            request_timeout=self.request_timeout,
            allowed=map(str, self.allowed),
            paths=self.paths,
            token=None if self.token is None else self.token.get_secret_value(),
            username=self.username,
            password=None if self.password is None else self.password.get_secret_value(),
            when_full=self.when_full,
            store=None if self.store is None else folder / self.store.root,
            retention=None if self.store is None else self.store.retention(),
            tls=None if self.tls is None else self.tls.options(folder),
            retry=self.retry.policy(),
            reactor=reactor,
        )
