"""The kinds of connections that come with equipnet."""

from equipnet.connection.config import Kind

instrument = Kind(
    "instrument",
    "an instrument on a plain socket: text and binary over TCP, TLS, UDP or UNIX sockets",
    "equipnet.instrument.config.InstrumentSection",
)
simulated_instrument = Kind(
    "simulated-instrument",
    "an instrument that answers from a table, with faults on request",
    "equipnet.instrument.config.SimulatedInstrumentSection",
)
