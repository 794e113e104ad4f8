"""
The passive sides of the HSMS benchmark, each in a process of its own: ``python -m benchmarks._hsms WHO PORT``.

``equipnet`` and ``secsgem`` are what their names say. ``floor`` is a plain Twisted protocol on a bytearray that reads
headers, and answers each with a header. All of them print the port that they listen on, and end when their standard
input does.
"""

import os
import struct
import sys
import threading
from typing import Any

HEADER = struct.Struct(">IHBBBBI")


def equipnet(port: int) -> None:
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from equipnet.hsms import HsmsPassiveConnection
    from equipnet.secs import B

    tool = HsmsPassiveConnection(listen=f"tcp:{port}")
    tool.set_primary(1, 1, lambda message: message.reply())
    tool.set_primary(7, 3, lambda message: message.reply(B(0)))

    def listening(_: object) -> None:
        assert tool.bound is not None
        _say(tool.bound.port)

    tool.listen().addCallback(listening)
    _run(reactor, Deferred)


def floor(port: int) -> None:
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Factory

    listening: Any = reactor.listenTCP(port, Factory.forProtocol(floor_protocol()), interface="127.0.0.1")  # type: ignore
    _say(listening.getHost().port)
    _run(reactor, Deferred)


def secsgem(port: int) -> None:
    import logging

    import secsgem.common
    import secsgem.hsms
    import secsgem.secs

    logging.disable(logging.CRITICAL)
    settings = secsgem.hsms.HsmsSettings(
        address="127.0.0.1",
        port=port,
        connect_mode=secsgem.hsms.HsmsConnectMode.PASSIVE,
        device_type=secsgem.common.DeviceType.EQUIPMENT,
    )
    peer: Any = secsgem.secs.SecsHandler(settings)
    peer.register_stream_function(1, 1, lambda *_: peer.stream_function(1, 2)(["A", "1"]))
    peer.register_stream_function(7, 3, lambda *_: peer.stream_function(7, 4)(0))
    peer.enable()
    _say(port)
    sys.stdin.read()
    os._exit(0)


def floor_protocol() -> Any:
    """The floor's protocol, which both of its sides have."""
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import Protocol

    class Floor(Protocol):
        transport: Any

        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)
            self.buffer = bytearray()
            self.waiting: dict[int, Deferred[Any]] = {}
            self.system = 0

        def dataReceived(self, data: bytes) -> None:
            buffer = self.buffer
            buffer += data
            at = 0
            while len(buffer) - at >= 14:
                length, session, byte2, byte3, _, _, system = HEADER.unpack_from(buffer, at)
                end = at + 4 + length
                if end > len(buffer):
                    break
                text = bytes(memoryview(buffer)[at + 14 : end]) if length > 10 else b""
                at = end
                if byte3 & 1:
                    self.transport.write(HEADER.pack(10, session, byte2 & 0x7F, byte3 + 1, 0, 0, system))
                else:
                    self.waiting.pop(system).callback(text)
            if at:
                del buffer[:at]

        def request(self, byte2: int, byte3: int, text: bytes = b"") -> "Deferred[Any]":
            self.system += 1
            answer: Deferred[Any] = Deferred()
            self.waiting[self.system] = answer
            header = HEADER.pack(10 + len(text), 0, byte2, byte3, 0, 0, self.system)
            self.transport.write(header)
            if text:
                self.transport.write(text)
            return answer

    return Floor


def _say(port: int) -> None:
    print(port, flush=True)


def _run(reactor: Any, deferred: Any) -> None:
    def wait() -> None:
        sys.stdin.read()
        reactor.callFromThread(reactor.stop)

    threading.Thread(target=wait, daemon=True).start()
    reactor.run()


if __name__ == "__main__":
    {"equipnet": equipnet, "floor": floor, "secsgem": secsgem}[sys.argv[1]](int(sys.argv[2]))
