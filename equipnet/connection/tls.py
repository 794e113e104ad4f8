"""TLS for connections and listening ports: whom we trust, and who we say we are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.ssl import Certificate, CertificateOptions, optionsForClientTLS, trustRootFromCertificates


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
        own = self._own()
        if own:
            self._check(CertificateOptions(**own))
        return optionsForClientTLS(self.host_name or host, self._trust_root(), extraCertificateOptions=own)

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
        own = self._own()
        if not own:
            raise ValueError("a TLS port needs a certificate and its key")
        return self._check(CertificateOptions(trustRoot=self._trust_root(), **own))

    def _own(self) -> dict[str, Any]:
        if self.certificate is None or self.key is None:
            return {}
        first, *chain = _certificates(self.certificate)
        return {"certificate": first, "privateKey": _private_key(self.key), "extraCertChain": chain}

    def _check(self, options: CertificateOptions) -> CertificateOptions:
        # Otherwise this would be found out during each connection.
        try:
            options.getContext()
        except SSL.Error as error:
            raise ValueError(f"{self.certificate} and {self.key} cannot be used together: {error}") from error
        return options

    def _trust_root(self) -> Any:
        if self.authority is None:
            return None
        return trustRootFromCertificates(
            [Certificate(crypto.X509.from_cryptography(each)) for each in _certificates(self.authority)]
        )


def _certificates(file: Path) -> list[x509.Certificate]:
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    found = [begin + block.split(end)[0] + end + b"\n" for block in file.read_bytes().split(begin)[1:]]
    if not found:
        raise ValueError(f"{file} holds no certificate in PEM form")
    try:
        return [x509.load_pem_x509_certificate(pem) for pem in found]
    except ValueError as error:
        raise ValueError(f"{file} holds a certificate that cannot be read: {error}") from error


def _private_key(file: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{file} holds no private key in PEM form, or one with a password") from error
