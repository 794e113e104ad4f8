"""Private certificate authorities, and certificates of theirs, as files for tests of TLS."""

from __future__ import annotations

import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Fixed, so that no clock decides.
BEGIN, END = datetime.datetime(2020, 1, 1), datetime.datetime(2120, 1, 1)

_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """
    A private certificate authority that keeps its files in one folder.

    Parameters
    ----------
    folder
        Where the files go.
    name
        What it is called.
    signed_by
        The authority above it; none for a root.
    """

    def __init__(self, folder: Path, name: str, signed_by: Authority | None = None) -> None:
        self.folder = folder
        self.name = _name(name)
        self.key = ec.generate_private_key(ec.SECP256R1())
        issuer = signed_by or self
        self.certificate = issuer._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(self.certificate))

    def issue(self, name: str, *also: Authority) -> tuple[Path, Path]:
        """Give the files of a certificate for this host name or IP address, with ``also`` behind it, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        host: x509.GeneralName
        try:
            host = x509.IPAddress(ip_address(name))
        except ValueError:
            host = x509.DNSName(name)
        certificate = self._sign(_name(name), key, x509.SubjectAlternativeName([host]))
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(b"".join(map(_pem, (certificate, *(each.certificate for each in also)))))
        files[1].write_bytes(key_pem(key))
        return files

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(self.name, name, key.public_key(), x509.random_serial_number(), BEGIN, END)
        # Whose keys they are must be said for a client that is strict about RFC 5280, as Python's own is from 3.13 on.
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(signer, critical=False)
        )
        if isinstance(extension, x509.BasicConstraints):
            builder = builder.add_extension(_SIGNS, critical=True)
        return builder.sign(self.key, hashes.SHA256())


def key_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """Give a private key as PEM."""
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        lock = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
