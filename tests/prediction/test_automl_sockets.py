"""Tests of the model's client with sockets, against simulated servers."""

from __future__ import annotations

import contextlib
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from equipnet.errors import ConnectionLost, RemoteProtocolError
from equipnet.http import HttpStatus
from equipnet.imaging import LoopDrawing
from equipnet.prediction import AutoMLFault, AutoMLModel, SimulatedAutoML
from examples.howto.camera import ask

reactor: Any = installed_reactor


class ModelTests(TestCase):
    timeout = 30

    async def test_faults(self) -> None:
        """
        Among many images that are asked about at once, those that go wrong fail, each in its way, and the others are
        answered.
        """
        server = SimulatedAutoML(reactor=reactor)
        self.addCleanup(server.disconnect)
        await server.connect()
        model = AutoMLModel(f"http://{server.peer.removeprefix('tcp:')}", max_requests=1, reactor=reactor)
        self.addCleanup(model.disconnect)
        await model.connect()
        for fault in (AutoMLFault(status=500), AutoMLFault(garbage=True), AutoMLFault(close=True)):
            server.inject(fault, count=1)
        image = LoopDrawing(1).draw(0.0).encode()
        asked = [model.predict(f"key {number}", image) for number in range(6)]
        for each, error in zip(asked, (HttpStatus, RemoteProtocolError, ConnectionLost), strict=False):
            await self.assertFailure(each, error)
        predictions = await gatherResults(asked[3:])
        self.assertEqual([each.key for each in predictions], ["key 3", "key 4", "key 5"])
        self.assertTrue(all(each.loop is not None for each in predictions))


class ExampleTests(TestCase):
    timeout = 30

    async def test_ask(self) -> None:
        """
        The program of "Ask a model what is in an image" prints what the page shows.
        """
        printed = StringIO()
        with contextlib.redirect_stdout(printed):
            await ask.main(reactor)
        self.assertEqual(printed.getvalue(), Path(ask.__file__).with_suffix(".txt").read_text())
