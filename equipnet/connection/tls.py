"""TLS for connections and listening ports: whom we trust, and who we say we are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)


@dataclass(frozen=True)
class TLS:
    """
    What a TLS connection or a TLS port needs beside its address; all files are PEM.

    The host name, or the IP address, that the address gives is always checked against the peer's certificate
    (service-identity, RFC 6125).

    Parameters
    ----------
    authority
        The certificates of the authorities to trust, instead of the system's. On a listening port: every client must
        show a certificate that one of them signed.
    certificate, key
        Our own certificate, with its chain behind it, and its private key. A listening port must have them; a client
        uses them where the equipment asks for a client certificate.
    host_name
        The name that is checked, where it is not the one in the address.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    host_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")

    def for_client(self, host: str) -> Any:
        """
        Give what Twisted needs to connect to ``host``.

        Raises
        ------
        OSError
            When a file cannot be read.
        ValueError
            When a file does not hold what it should.
        """
        own = None
        if self.certificate is not None and self.key is not None:
            certificate = Certificate.loadPEM(_only(self.certificate, "CERTIFICATE"))
            own = PrivateCertificate.fromCertificateAndKeyPair(certificate, _key_pair(self.key))
        return optionsForClientTLS(self.host_name or host, self._trust_root(), own)

    def for_server(self) -> CertificateOptions:
        """
        Give what Twisted needs to listen.

        Raises
        ------
        OSError
            When a file cannot be read.
        ValueError
            When a file does not hold what it should, or there is no certificate.
        """
        if self.certificate is None or self.key is None:
            raise ValueError("a TLS port needs a certificate and its key")
        chain = [Certificate.loadPEM(pem) for pem in _blocks(self.certificate, "CERTIFICATE")]
        return CertificateOptions(
            privateKey=_key_pair(self.key).original,
            certificate=chain[0].original,
            extraCertChain=[certificate.original for certificate in chain[1:]],
            trustRoot=self._trust_root(),
        )

    def _trust_root(self) -> Any:
        if self.authority is None:
            return None
        return trustRootFromCertificates([Certificate.loadPEM(pem) for pem in _blocks(self.authority, "CERTIFICATE")])


def _blocks(file: Path, label: str) -> list[bytes]:
    begin, end = f"-----BEGIN {label}-----".encode(), f"-----END {label}-----".encode()
    found = [begin + block.split(end)[0] + end + b"\n" for block in file.read_bytes().split(begin)[1:]]
    if not found:
        raise ValueError(f"{file} holds no {label} in PEM form")
    return found


def _only(file: Path, label: str) -> bytes:
    return _blocks(file, label)[0]


def _key_pair(file: Path) -> KeyPair:
    try:
        return KeyPair.load(file.read_bytes(), crypto.FILETYPE_PEM)
    except crypto.Error as error:
        raise ValueError(f"{file} holds no private key in PEM form, or one with a password") from error
