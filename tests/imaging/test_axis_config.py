"""Tests of the section of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.retry import RetryPolicy
from equipnet.connection.state import State
from equipnet.connection.tls import TLS
from equipnet.daemon.config import installed_kinds, read_config
from equipnet.daemon.tree import Node
from equipnet.imaging import AxisCamera
from equipnet.imaging.axis_config import AxisSection
from examples.howto.camera import look
from tests.connection.certificates import Authority

CLIENT = ("connect_timeout", "answer_timeout", "silence_timeout", "timeout", "max_size", "max_requests", "queue_limit")


def built(folder: Path = Path(), **keys: Any) -> AxisCamera:
    """Build the camera of a section, which needs nothing of its node."""
    section = AxisSection.model_validate({"kind": "axis", **keys})
    camera = section.build("axis6", Node("test", 1.0, Clock()), folder, Clock())
    assert isinstance(camera, AxisCamera)
    return camera


class AxisSectionTests(SynchronousTestCase):
    def test_kind(self) -> None:
        """
        The section is that of the kind ``axis``.
        """
        self.assertIs(installed_kinds()["axis"].section(), AxisSection)

    def test_defaults(self) -> None:
        """
        What a file does not say is as in the constructor, and nothing is opened.
        """
        camera, plain = built(url="http://axis6"), AxisCamera("http://axis6", reactor=Clock())
        for name in ("camera", "probe_path", "probe_interval", "peer"):
            self.assertEqual(getattr(camera, name), getattr(plain, name), name)
        for name in CLIENT:
            self.assertEqual(getattr(camera.client, name), getattr(plain.client, name), name)
        self.assertEqual(camera._policy, plain._policy)
        self.assertEqual((camera.name, camera.kind, camera.state), ("axis6", "axis", State.STOPPED))

    def test_everything(self) -> None:
        """
        What it says arrives.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        Authority(folder, "ca")
        camera = built(
            folder,
            url="https://axis6:8443/",
            camera=2,
            username="root",
            password="secret",
            basic_over_http=True,
            connect_timeout=1.0,
            answer_timeout=2.0,
            silence_timeout=3.0,
            timeout=4.0,
            max_size="5 MB",
            max_requests=6,
            queue_limit=7,
            probe_path="/axis-cgi/imagesize.cgi?camera=2",
            probe_interval=8.0,
            tls={"authority": "ca.pem"},
            retry={"initial_delay": 0.2, "maximum": 9.0},
        )
        self.assertEqual([getattr(camera.client, name) for name in CLIENT], [1.0, 2.0, 3.0, 4.0, 5_000_000, 6, 7])
        self.assertEqual(
            (camera.camera, camera.probe_path, camera.probe_interval), (2, "/axis-cgi/imagesize.cgi?camera=2", 8.0)
        )
        self.assertEqual(camera._policy, RetryPolicy(0.2, maximum=9.0))
        self.assertEqual(camera.client.pool.tls, TLS(folder / "ca.pem"))
        self.assertEqual(str(camera.client.address), "tls:axis6:8443")
        self.assertEqual(repr(camera.client._login), "<Login 'root'>")

    def test_wrong(self) -> None:
        """
        What does not fit is refused with a text that says what would.
        """
        for keys, words in (
            ({}, "url"),
            ({"url": "axis6"}, "'axis6' is not of the form http[s]://HOST[:PORT][/PATH]"),
            ({"url": "http://axis6", "camera": 0}, "camera"),
            ({"url": "http://axis6", "username": "root"}, "username and password go together"),
            ({"url": "http://axis6", "tls": {}}, "a tls table is for a url that begins with https:"),
            ({"url": "http://axis6", "probe_path": "image.cgi"}, "probe_path"),
            ({"url": "http://axis6", "max_size": "much"}, "is not a number of bytes"),
            ({"url": "http://axis6", "timeout": 0}, "timeout"),
            ({"url": "http://axis6", "resolution": "1x1"}, "resolution"),
        ):
            with self.subTest(keys=keys):
                error = self.assertRaises(ValidationError, AxisSection.model_validate, {"kind": "axis", **keys})
                self.assertIn(words, str(error))

    def test_secret(self) -> None:
        """
        The password is shown by nothing.
        """
        section = AxisSection.model_validate({"kind": "axis", "url": "http://a", "username": "b", "password": "secret"})
        self.assertNotIn("secret", repr(section))
        self.assertNotIn("secret", repr(vars(built(url="http://a", username="b", password="secret"))))

    def test_example(self) -> None:
        """
        The file of the guides describes a camera and a model.
        """
        file = Path(look.__file__).parent / "clients.toml"
        node = Node.from_config(
            read_config(file, installed_kinds(), {"CAMERA_PASSWORD": "secret"}), MemoryReactorClock()
        )
        self.assertEqual(
            {name: each.kind for name, each in node.connections.items()}, {"axis": "axis", "automl": "automl"}
        )
