"""
The kinds of connections: a Twisted plugin package.

Another package brings its own kind with a module in an ``equipnet/plugins/`` folder of its own (without
``__init__.py``) that holds an instance of `equipnet.connection.config.Kind`.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
