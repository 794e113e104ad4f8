"""Tests of the JPEG receiver's section of the configuration file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.config import complaint, installed_kinds, read_config
from equipnet.daemon.tree import Node
from equipnet.errors import ConfigError
from equipnet.imaging import JpegReceiver
from equipnet.imaging.config import JpegReceiverSection
from tests.connection.certificates import Authority

START = '[connections.images]\nkind = "jpeg-receiver"\n'


class SectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "node.toml"

    def built(self, text: str) -> JpegReceiver:
        self.file.write_text(START + text)
        node = Node.from_config(read_config(self.file, installed_kinds(), {}), MemoryReactorClock())
        receiver = node.connections["images"]
        assert isinstance(receiver, JpegReceiver)
        return receiver

    def complaints(self, text: str) -> list[str]:
        """Give what is wrong with a section, without the file's name."""
        error = self.assertRaises(ConfigError, self.built, text)
        return [line.replace(f"{self.file}:", "") for line in complaint(self.file, error).splitlines()]

    def test_defaults(self) -> None:
        """
        What is not said is as it is for the class.
        """
        options: dict[str, Any] = {
            name: parameter.default for name, parameter in inspect.signature(JpegReceiver).parameters.items()
        }
        fields = JpegReceiverSection.model_fields
        for key in ("max_connections", "idle_timeout", "request_timeout", "allowed", "paths", "token", "username"):
            self.assertEqual(fields[key].default, options[key], key)
        for key in ("password", "when_full", "store", "tls"):
            self.assertEqual(fields[key].default, options[key], key)
        receiver = self.built('listen = "tcp:9000"')
        other = JpegReceiver("tcp:9000", reactor=MemoryReactorClock())
        self.assertEqual((receiver.max_size, receiver._policy), (other.max_size, other._policy))
        self.assertEqual(str(receiver.address), "tcp:127.0.0.1:9000")

    def test_everything(self) -> None:
        """
        Everything that can be said arrives; relative files are those beside the configuration.
        """
        (self.folder / "secret").write_text("s3cret\n")
        certificate, key = Authority(self.folder, "ca").issue("localhost")
        receiver = self.built(
            f"""
            listen = "tls:9000:interface=0.0.0.0"
            max_size = "2 MB"
            max_connections = 7
            idle_timeout = 1.5
            request_timeout = 60
            allowed = ["10.0.0.0/8", "::1"]
            paths = ["/camera1"]
            token = "abc"
            username = "axis"
            password_file = "secret"
            when_full = "drop-oldest"
            store = {{ root = "pictures", max_files = 10, max_bytes = "1 GiB", max_age = 3600 }}
            tls = {{ certificate = "{certificate.name}", key = "{key.name}" }}
            retry = {{ attempts = 3 }}
            """
        )
        self.assertEqual(
            (
                receiver.name,
                receiver.max_size,
                receiver.max_connections,
                receiver.idle_timeout,
                receiver.request_timeout,
            ),
            ("images", 2_000_000, 7, 1.5, 60.0),
        )
        self.assertEqual([receiver.is_allowed(host) for host in ("10.1.2.3", "::1", "11.0.0.1")], [True, True, False])
        self.assertEqual((receiver.when_full, receiver._paths, receiver._token), ("drop-oldest", {"/camera1"}, "abc"))
        self.assertEqual((receiver._policy.attempts, str(receiver.address)), (3, "tls:0.0.0.0:9000"))
        store = receiver.store
        assert store is not None and receiver._guard is not None
        self.assertEqual(store.root, self.folder / "pictures")
        retention = store._folder._retention
        self.assertEqual((retention.max_files, retention.max_bytes, retention.max_age), (10, 2**30, 3600.0))
        self.assertEqual(receiver._guard._password, "s3cret")
        self.assertFalse(store.root.exists())

    def test_wrong(self) -> None:
        """
        Everything that is wrong is told at once, each with its place; no secret is repeated.
        """
        self.assertEqual(
            self.complaints(
                'listen = "tcp:9000"\n'
                'max_size = "big"\n'
                "max_connections = 0\n"
                "idle_timeout = inf\n"
                'allowed = ["10.0.0.0/33"]\n'
                'paths = ["camera1"]\n'
                'when_full = "drop"\n'
                "store = { max_files = 0 }\n"
                'tokn = "s3cret"\n'
            ),
            [
                "4: connections.images.max_size: 'big' is not a number of bytes; "
                "write one such as 500000, '500 kB' or '20 MiB'",
                "5: connections.images.max_connections: must be at least 1, not 0",
                "6: connections.images.idle_timeout: must be a finite number, not inf",
                "7: connections.images.allowed[0]: value is not a valid IPv4 or IPv6 network",
                "8: connections.images.paths[0]: a path begins with /: 'camera1'",
                "9: connections.images.when_full: must be one of 'wait', 'refuse' or 'drop-oldest', not 'drop'",
                "10: connections.images.store: 'root' is required",
                "10: connections.images.store.max_files: must be at least 1, not 0",
                "11: connections.images.tokn: unknown key; did you mean 'token'?",
                " 9 problems",
            ],
        )

    def test_credentials(self) -> None:
        """
        So is what does not go together.
        """
        token = "a token is one word of visible ASCII characters"
        for text, wrong in (
            ('listen = "tcp:9000"\nusername = "axis"\n', "username and password go together"),
            ('listen = "tcp:9000"\npassword = "s3cret"\n', "username and password go together"),
            ('listen = "tcp:9000"\nusername = ""\npassword = "s3cret"\n', "username is empty"),
            ('listen = "tcp:9000"\ntoken = ""\n', token),
            ('listen = "tcp:9000"\ntoken = "s3cret s3cret"\n', token),
            ('listen = "tls:9000"\n', "a TLS port needs tls = { certificate = ..., key = ... }"),
            ('listen = "udp:9000"\n', "HTTP does not go over UDP"),
            ("", "'listen' is required"),
        ):
            self.assertEqual(self.complaints(text), [f"1: connections.images: {wrong}", " 1 problem"])
