"""Tests of what ``twistd`` and ``equipnet`` find as plugins."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

import equipnet.plugins
from equipnet.daemon import tap
from equipnet.daemon.config import installed_kinds
from equipnet.interfaces import IConnectionKind


class CommandTests(SynchronousTestCase):
    def test_command(self) -> None:
        """
        ``twistd equipnet`` is there, and leads to the daemon.
        """
        plugins: list[Any] = list(getPlugins(IServiceMaker))
        (command,) = (found for found in plugins if found.tapname == "equipnet")
        self.assertEqual(command.module, "equipnet.daemon.tap")
        self.assertIs(command.options, tap.Options)
        self.assertIs(command.makeService, tap.makeService)


class KindsTests(SynchronousTestCase):
    def test_every_kind(self) -> None:
        """
        Each built-in kind has a name of its own, a summary of one line, and a model that can be imported.
        """
        kinds = list(getPlugins(IConnectionKind, equipnet.plugins))
        self.assertEqual(sorted(kind.name for kind in kinds), list(installed_kinds()))
        for kind in kinds:
            self.assertRegex(kind.name, "^[a-z][a-z0-9-]*$")
            self.assertRegex(kind.summary, "^.{10,100}$")
            self.assertIn("kind", kind.section().model_fields)
