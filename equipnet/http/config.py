"""What the sections of kinds that ask an HTTP server have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, model_validator

from equipnet.connection.config import ConnectionSection, RetrySection, TLSSection
from equipnet.http.client import (
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_REQUESTS,
    MAX_SIZE,
    QUEUE_LIMIT,
    SILENCE_TIMEOUT,
    TIMEOUT,
    parse_url,
)
from equipnet.http.service import PROBE_INTERVAL
from equipnet.http.size import Size


def _url(value: str) -> str:
    parse_url(value)
    return value


Url = Annotated[str, AfterValidator(_url)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class HttpSection(ConnectionSection):
    """
    A ``[connections.NAME]`` table of a kind that asks an HTTP server.

    Parameters
    ----------
    url, username, password, basic_over_http, connect_timeout, answer_timeout, silence_timeout, timeout, max_size, \
max_requests, queue_limit
        As `equipnet.http.HttpClient` says.
    probe_path, probe_interval
        As `equipnet.http.HttpConnection` says; each kind has a path of its own where nothing is given.
    tls
        What ``https`` needs beside the host name.
    retry
        When to try again.
    """

    url: Url
    username: str | None = None
    password: SecretStr | None = None
    basic_over_http: bool = False
    connect_timeout: Seconds = CONNECT_TIMEOUT
    answer_timeout: Seconds = ANSWER_TIMEOUT
    silence_timeout: Seconds = SILENCE_TIMEOUT
    timeout: Seconds = TIMEOUT
    max_size: Size = MAX_SIZE
    max_requests: int = Field(default=MAX_REQUESTS, ge=1)
    queue_limit: int = Field(default=QUEUE_LIMIT, ge=0)
    probe_path: Annotated[str, Field(pattern="^/")] | None = None
    probe_interval: Seconds = PROBE_INTERVAL
    tls: TLSSection | None = None
    retry: RetrySection = RetrySection()

    @model_validator(mode="after")
    def _fits_together(self) -> HttpSection:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.tls is not None and parse_url(self.url)[0].scheme != "tls":
            raise ValueError("a tls table is for a url that begins with https:")
        return self

    def settings(self, folder: Path) -> dict[str, Any]:
        """Give the arguments of an `equipnet.http.HttpConnection`, but for its URL."""
        names = (
            "username", "basic_over_http", "connect_timeout", "answer_timeout", "silence_timeout", "timeout",
            "max_size", "max_requests", "queue_limit", "probe_path", "probe_interval",
        )  # fmt: skip
        return {
            **{name: getattr(self, name) for name in names},
            "password": None if self.password is None else self.password.get_secret_value(),
            "tls": None if self.tls is None else self.tls.options(folder),
            "retry": self.retry.policy(),
        }
