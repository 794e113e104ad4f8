"""
Named, supervised, reconnecting connections to lab equipment, on Twisted.

Every wire format has a package of its own here, and every connection the same life, whatever it speaks. One
configuration file becomes one tree of Twisted services; the same classes serve as a library that returns Deferreds.
"""

__version__ = "0.1.0.dev0"
