"""
What autodoc lacks for the reference of equipnet.

It passes over zope's interfaces, which are no classes, and it links a name that stands without its module only within
that module.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import NumpyDocstring
from zope.interface.interface import InterfaceClass


def append_interfaces(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Describe a module's interfaces after its docstring."""
    if what == "module":
        module = importlib.import_module(name)
        for statement in ast.parse(inspect.getsource(module)).body:
            if isinstance(statement, ast.ClassDef) and isinstance(getattr(module, statement.name), InterfaceClass):
                lines += ["", *interface(statement, app.config)]


def interface(definition: ast.ClassDef, config: Config) -> Iterator[str]:
    """
    An interface as reStructuredText.

    It is read from the source, because zope.interface does not keep annotations.
    """
    yield f".. py:class:: {definition.name}"
    yield from (
        "",
        "   *zope.interface*, extends " + ", ".join(f"`{ast.unparse(base)}`" for base in definition.bases),
        "",
    )
    yield from indented(ast.get_docstring(definition) or "", config)
    for member in definition.body:
        if isinstance(member, ast.FunctionDef) and not member.decorator_list:
            returned = f" -> {ast.unparse(member.returns)}" if member.returns else ""
            yield f"   .. py:method:: {member.name}({ast.unparse(member.args)}){returned}"
            yield ""
            yield from indented(ast.get_docstring(member) or "", config, 6)
        elif isinstance(member, ast.AnnAssign) and isinstance(member.value, ast.Call) and member.value.args:
            yield f"   .. py:attribute:: {ast.unparse(member.target)}"
            yield f"      :type: {ast.unparse(member.annotation)}"
            yield ""
            yield from indented(inspect.cleandoc(ast.literal_eval(member.value.args[0])), config, 6)


def indented(docstring: str, config: Config, by: int = 3) -> Iterator[str]:
    """A NumPy docstring as reStructuredText, moved to the right, with an empty line after it."""
    for line in NumpyDocstring(docstring, config).lines():
        yield " " * by + line if line else ""
    yield ""


def find_in_other_modules(app: Sphinx, env: BuildEnvironment, node: Element, contnode: TextElement) -> Element | None:
    """Link a name without its module to the one thing in the reference that is called so, if it is only one."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains["py"]
    end = "." + node["reftarget"]
    found = [name for name, *_ in domain.get_objects() if name.endswith(end)]
    if len(found) != 1:
        return None
    node["refspecific"] = False
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add this to Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", append_interfaces)
    app.connect("missing-reference", find_in_other_modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
