from __future__ import annotations

from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.tls import TLS

from .certificates import Authority, key_pem


class FilesTests(SynchronousTestCase):
    """What the files of a TLS connection must hold."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.authority = Authority(self.folder, "ca")
        self.certificate, self.key = self.authority.issue("dmm.lab")

    def file(self, content: bytes) -> Path:
        path = self.folder / "bad.pem"
        path.write_bytes(content)
        return path

    def refused(self, tls: TLS, words: str) -> None:
        """Assert that neither a client nor a server is made of this, and that the error says so."""
        for make in (partial(tls.for_client, "dmm.lab"), tls.for_server):
            self.assertIn(words, str(self.assertRaises(ValueError, make)))

    def test_good(self) -> None:
        """Good files make a client and a server."""
        tls = TLS(self.authority.file, self.certificate, self.key)
        self.assertIsNotNone(tls.for_client("dmm.lab"))
        self.assertIsNotNone(tls.for_server())

    def test_nothing(self) -> None:
        """A client needs no file at all, a server its certificate."""
        self.assertIsNotNone(TLS().for_client("10.0.0.5"))
        self.assertIn("needs a certificate", str(self.assertRaises(ValueError, TLS().for_server)))

    def test_together(self) -> None:
        """A certificate is of no use without its key, nor a key without its certificate."""
        self.assertRaises(ValueError, TLS, certificate=self.certificate)
        self.assertRaises(ValueError, TLS, key=self.key)

    def test_missing(self) -> None:
        """A file that is not there is the system's error, with its name."""
        gone = self.folder / "gone.pem"
        for tls in (
            TLS(gone, self.certificate, self.key),
            TLS(None, gone, self.key),
            TLS(None, self.certificate, gone),
        ):
            for make in (partial(tls.for_client, "dmm.lab"), tls.for_server):
                with self.subTest(tls=tls):
                    self.assertEqual(self.assertRaises(FileNotFoundError, make).filename, str(gone))

    def test_no_certificate(self) -> None:
        """A file without a certificate is named, and so is one whose certificate is damaged."""
        for content, words in (
            (b"", "bad.pem holds no certificate in PEM form"),
            (self.key.read_bytes(), "bad.pem holds no certificate in PEM form"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "bad.pem holds a certificate that"),
            (b"-----BEGIN CERTIFICATE-----\n!\n", "bad.pem holds a certificate that"),
            (b"\xff-----BEGIN CERTIFICATE-----\xff", "bad.pem holds a certificate that"),
        ):
            with self.subTest(content=content):
                bad = self.file(content)
                self.refused(TLS(bad, self.certificate, self.key), words)
                self.refused(TLS(None, bad, self.key), words)

    def test_no_key(self) -> None:
        """A file without a private key, or with one behind a password, is named; nobody is asked for the password."""
        for content in (
            b"",
            self.certificate.read_bytes(),
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            key_pem(self.authority.key, b"secret"),
        ):
            with self.subTest(content=content):
                self.refused(TLS(None, self.certificate, self.file(content)), "bad.pem holds no private key")

    def test_key_of_another(self) -> None:
        """A key that does not belong to the certificate is refused, with both names."""
        _, other = self.authority.issue("other.lab")
        self.refused(TLS(None, self.certificate, other), f"{self.certificate} and {other} cannot be used together")
