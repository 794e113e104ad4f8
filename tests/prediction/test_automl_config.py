"""Tests of the section of a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.daemon.config import installed_kinds
from equipnet.daemon.tree import Node
from equipnet.prediction import AutoMLModel
from equipnet.prediction.config import AutoMLSection


def built(**keys: Any) -> AutoMLModel:
    """Build the model of a section, which needs nothing of its node."""
    section = AutoMLSection.model_validate({"kind": "automl", **keys})
    model = section.build("voltron", Node("test", 1.0, Clock()), Path(), Clock())
    assert isinstance(model, AutoMLModel)
    return model


class AutoMLSectionTests(SynchronousTestCase):
    def test_kind(self) -> None:
        """
        The section is that of the kind ``automl``.
        """
        self.assertIs(installed_kinds()["automl"].section(), AutoMLSection)

    def test_defaults(self) -> None:
        """
        What a file does not say is as in the constructor.
        """
        model, plain = built(url="http://voltron:5000"), AutoMLModel("http://voltron:5000", reactor=Clock())
        for name in ("model", "max_boxes", "probe_path", "probe_interval", "peer"):
            self.assertEqual(getattr(model, name), getattr(plain, name), name)
        self.assertEqual((model.name, model.kind, model.probe_path), ("voltron", "automl", "/v1/models/default"))

    def test_everything(self) -> None:
        """
        What it says arrives.
        """
        model = built(url="http://voltron:5000", model="loops", max_boxes=3, probe_path="/alive", max_requests=2)
        self.assertEqual((model.model, model.max_boxes, model.probe_path), ("loops", 3, "/alive"))
        self.assertEqual(model.client.max_requests, 2)

    def test_wrong(self) -> None:
        """
        What does not fit is refused.
        """
        for key, value in (("model", "a/b"), ("max_boxes", 0), ("camera", 1)):
            with self.subTest(key=key):
                error = self.assertRaises(
                    ValidationError,
                    AutoMLSection.model_validate,
                    {"kind": "automl", "url": "http://voltron", key: value},
                )
                self.assertIn(key, str(error))
