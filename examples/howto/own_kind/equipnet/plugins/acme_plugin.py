"""Tells equipnet of the kind; Twisted finds this file since it lies in a folder `equipnet/plugins/` on the path."""

from equipnet.connection.config import Kind

acme_counter = Kind("acme-counter", "an ACME particle counter", "acme_counter.CounterSection")
