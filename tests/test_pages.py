"""Tests of the names that stand in the documentation's pages: what they call equipnet's is there."""

from __future__ import annotations

import ast
import builtins
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

import equipnet
from equipnet.connection.config import RetrySection
from equipnet.daemon.config import installed_kinds
from equipnet.dcs import HardwareServer, Run
from equipnet.dcs.message import Message as DcsMessage
from equipnet.hsms import HsmsActiveConnection, ReceivedMessage
from equipnet.http import HttpConnection
from equipnet.imaging import AxisCamera, Frame, JpegReceiver, ReceivedImage
from equipnet.instrument import Instrument
from equipnet.prediction import AutoMLModel, Box, Prediction
from tests.test_examples import PAGES, ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: What the pages call things of these classes.
VARIABLES: dict[str, tuple[type[Any], ...]] = {
    "box": (Box,),
    "camera": (AxisCamera,),
    "connection": (HttpConnection, HsmsActiveConnection),
    "frame": (Frame,),
    "host": (HsmsActiveConnection,),
    "image": (ReceivedImage,),
    "instrument": (Instrument,),
    "message": (DcsMessage, ReceivedMessage),
    "model": (AutoMLModel,),
    "prediction": (Prediction,),
    "receiver": (JpegReceiver,),
    "run": (Run,),
    "self": (HardwareServer,),
}

#: What stands in the columns of equipnet, and is neither Python nor TOML nor ours.
OTHERS = {
    "twistd",
    "twistd -n equipnet --config FILE",
    "twisted.logger",
    "twisted.web",
    "async def",
    "async for",
    "[connections.NAME]",
    "try",
    "finally: await instrument.disconnect()",
    "OSError",
}


@cache
def names() -> frozenset[str]:
    """Give the public names of modules, classes, their attributes, parameters and keys."""
    found = set(vars(builtins)) | set(VARIABLES)
    for module in pkgutil.walk_packages(equipnet.__path__, "equipnet."):
        for name, value in vars(import_module(module.name)).items():
            if name.startswith("_") or not str(getattr(value, "__module__", "equipnet")).startswith("equipnet"):
                continue
            found.add(name)
            if inspect.isclass(value):
                found.update(name for name in dir(value) if not name.startswith("_"))
                for base in value.__mro__:
                    found.update(vars(base).get("__annotations__", ()))
                if value.__module__ == module.name:
                    found.update(re.findall(r"\bself\.([a-z]\w*)", inspect.getsource(value)))
            functions = [value, *vars(value).values()] if inspect.isclass(value) else [value]
            for function in filter(inspect.isfunction, functions):
                found.update(inspect.signature(function).parameters)
    for kind in installed_kinds().values():
        found.add(kind.name)
        found.update(kind.section().model_fields)
    found.update(RetrySection.model_fields)
    return frozenset(found)


def has(owner: type[Any], name: str) -> bool:
    """Tell whether what is of this class has an attribute: of the class, annotated, or set in it."""
    return hasattr(owner, name) or any(
        name in vars(base).get("__annotations__", ()) or re.search(rf"\bself\.{name}\b", inspect.getsource(base))
        for base in owner.__mro__
        if base.__module__.startswith("equipnet")
    )


def unknown(node: ast.AST) -> Iterator[str]:
    """Give what an expression takes for equipnet's that is not; values in calls are examples, and may be anything."""
    if isinstance(node, ast.Name):
        if node.id not in names():
            yield node.id
    elif isinstance(node, ast.Attribute):
        base = node.value
        owners = VARIABLES.get(base.id, ()) if isinstance(base, ast.Name) else ()
        if isinstance(base, ast.Name) and not owners and base.id[0].isupper():
            owners = tuple(each for each in classes() if each.__name__ == base.id)
        if not any(has(owner, node.attr) for owner in owners) if owners else node.attr not in names():
            yield ast.unparse(node)
        yield from unknown(base)
    elif isinstance(node, ast.Call):
        yield from unknown(node.func)
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in names():
                yield f"{ast.unparse(node.func)}(... {keyword.arg}=)"
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(value, (ast.Call, ast.Attribute)):
                yield from unknown(value)
    elif not isinstance(node, ast.Constant):
        for child in ast.iter_child_nodes(node):
            yield from unknown(child)


@cache
def classes() -> tuple[type[Any], ...]:
    """Give the public classes."""
    modules = [import_module(module.name) for module in pkgutil.walk_packages(equipnet.__path__, "equipnet.")]
    return tuple(
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    )


def keys(table: dict[str, Any]) -> Iterator[str]:
    """Give the keys of a table and of those in it."""
    for key, value in table.items():
        yield key
        if isinstance(value, dict):
            yield from keys(value)


def problems(span: str) -> list[str]:
    """Give what is wrong with a piece of code in a column of equipnet."""
    if span in OTHERS or span in names() or span.startswith("equipnet."):
        return []
    try:
        return [key for key in keys(tomllib.loads(span)) if key not in names()]
    except tomllib.TOMLDecodeError:
        pass
    source = f"{span}\ndef method(self): ..." if span.startswith("@") else span
    try:
        tree = compile(source, span, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return [f"not Python: {span}"]
    assert isinstance(tree, ast.Module)
    found: list[str] = []
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            for decorator in statement.decorator_list:
                found += unknown(decorator)
        elif isinstance(statement, ast.Assign):
            found += [name for target in statement.targets for name in unknown(target)]
        else:
            found += unknown(statement)
    return found


class NameTests(SynchronousTestCase):
    def test_from_elsewhere(self) -> None:
        """
        In the tables of the pages "Come from ..." each name in the second column, equipnet's, is one that there is.
        """
        pages = sorted((ROOT / "docs" / "howto").glob("from-*.md"))
        self.assertGreaterEqual(len(pages), 5)
        wrong = []
        for page in pages:
            spans = list(self.spans(page))
            self.assertGreater(len(spans), 10, page)
            wrong += [f"{page.name}: `{span}`: {problem}" for span in spans for problem in problems(span)]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def spans(self, page: Path) -> Iterator[str]:
        """Give the pieces of code in the second columns of a page's tables."""
        for line in page.read_text().splitlines():
            cells = [cell.replace("\0", "|").strip() for cell in line.replace(r"\|", "\0").split("|")]
            if line.startswith("|") and len(cells) > 3 and set(cells[2]) != {"-"}:
                yield from re.findall("`([^`]+)`", re.sub("{[^}]*}`[^`]*`", "", cells[2]))

    def test_links(self) -> None:
        """
        What a page links to in the reference is there.
        """
        for page in PAGES:
            for target in re.findall(r"\{py:obj\}`~?([\w.]+)`", page.read_text()):
                with self.subTest(page=page.name, target=target):
                    try:
                        namedAny(target)
                    except AttributeError:
                        owner, _, name = target.rpartition(".")
                        self.assertTrue(has(namedAny(owner), name))

    def test_wrong(self) -> None:
        """
        A name that is not there is found: of a class, an attribute, a parameter, a key, a method.
        """
        for wrong in ("Instrumnet()", "run.handel", "Instrument(terminaton=1)", "retry = { atempts = 1 }", "querry(1)"):
            with self.subTest(wrong=wrong):
                self.assertNotEqual(problems(wrong), [])
