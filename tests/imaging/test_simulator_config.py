"""
Tests for `equipnet.imaging.simulator_config`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.config import read_section
from equipnet.daemon.tree import Node
from equipnet.errors import ConfigError
from equipnet.imaging.simulator import AxisFault, SimulatedAxis

PLAIN = 'listen = "tcp:8888"\n'


class SectionTests(SynchronousTestCase):
    def build(self, text: str) -> SimulatedAxis:
        """Build the camera that a file of ``equipnet simulate axis`` describes."""
        file = Path(self.mktemp())
        file.write_text(text)
        node = Node.from_config(read_section(file, "simulated-axis"), MemoryReactorClock())
        (camera,) = node.connections.values()
        assert isinstance(camera, SimulatedAxis)
        return camera

    def test_defaults(self) -> None:
        """
        One key is enough; the port is on the loopback interface.
        """
        camera = self.build(PLAIN)
        self.assertEqual(str(camera.address), "tcp:127.0.0.1:8888")
        self.assertEqual((camera.guard, camera.angle, camera.view.size), (None, 0, (704, 480)))

    def test_everything(self) -> None:
        """
        Every key reaches the camera.
        """
        camera = self.build(
            PLAIN
            + 'seed = 5\nresolution = [640, 512]\ncompression = 10\nusername = "root"\npassword = "pass"\n'
            + 'algorithms = ["Basic"]\nstart_angle = 20.0\nstep = 10.0\npost_to = "http://127.0.0.1:9000/camera1"\n'
            + "post_rate = 30.0\npost_count = 36\npost_limit = 5\npost_timeout = 2.0\nmax_connections = 7\n"
            + 'idle_timeout = 9.0\nallowed = ["10.0.0.0/8"]\nretry = { attempts = 3 }\n'
            + 'fault = { on = "post", truncate = true, count = 1 }\n'
        )
        self.assertEqual((camera.seed, camera.view.size, camera.view.compression), (5, (640, 512), 10))
        self.assertEqual((camera.angle, camera.step, camera.post_rate, camera.post_count), (20, 10, 30, 36))
        self.assertEqual(camera.post_limit, 5)
        self.assertEqual((camera.max_connections, camera.idle_timeout), (7, 9))
        self.assertEqual([str(each) for each in camera.allowed], ["10.0.0.0/8"])
        assert camera.guard is not None
        self.assertTrue(camera.guard.challenges()[0].startswith(b"Basic "))
        fault = AxisFault(on="post", truncate=True)
        self.assertEqual([camera.fault_for("post") for _ in range(2)], [fault, None])

    def test_wrong(self) -> None:
        """
        What cannot be is told with its line.
        """
        for text, said in (
            ("", "listen"),
            ('listen = "udp:8888"\n', "HTTP does not go over UDP"),
            ('listen = "tls:8888"\n', "a TLS port needs tls"),
            (PLAIN + "speed = 1.0\nstep = 1.0\n", "only one of speed, step and angle_of"),
            (PLAIN + "resolution = [10, 10]\n", "the size is 10x10, not from 160x120 to 1280x1024 pixels"),
            (PLAIN + 'post_to = "9000"\n', "'9000' is not of the form http[s]://HOST[:PORT][/PATH]"),
            (PLAIN + 'username = "root"\n', "username and password go together"),
            (PLAIN + 'fault = { on = "post", close = true }\n', "close is not for posts"),
            (PLAIN + "fault = { status = 500, count = 0 }\n", "fault.count"),
        ):
            error = self.assertRaises(ConfigError, self.build, text)
            self.assertIn(said, str(error))

    def test_secret(self) -> None:
        """
        The password is in no error.
        """
        text = PLAIN + 'username = "root"\npassword = "hunter2"\nspeed = "x"\n'
        self.assertNotIn("hunter2", str(self.assertRaises(ConfigError, self.build, text)))
