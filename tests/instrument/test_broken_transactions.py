from typing import Any

from twisted.internet.defer import Deferred

from equipnet.errors import ConnectionLost, EquipmentTimeout
from tests.instrument.test_service import InstrumentTestCase


class LossBetweenOperationsTests(InstrumentTestCase):
    """
    What an earlier operation of a transaction has set may be gone with the connection, so the next one is not done
    unawares.
    """

    def begun(self, dmm: Any) -> tuple[Deferred[None], list[Any]]:
        """
        Begin a transaction that writes, waits to be let go, and then queries twice; gives what lets it go, and the
        ends.
        """
        go_on: Deferred[None] = Deferred()
        ends: list[Any] = []

        async def several() -> None:
            async with dmm.transaction():
                await dmm.write("CONF:VOLT")
                await go_on
                for command in ("READ?", "*IDN?"):
                    try:
                        ends.append(await dmm.query(command))
                    except ConnectionError as error:
                        ends.append(error)

        Deferred.fromCoroutine(several())
        self.assertEqual(self.heard(), b"CONF:VOLT\n")
        return go_on, ends

    def test_lost_and_back(self) -> None:
        """
        The next operation fails although there is a connection again; who goes on after that knows what he does.
        """
        dmm = self.connected()
        go_on, ends = self.begun(dmm)
        self.device.transport.abortConnection()
        self.turn()
        dmm.connect()
        self.turn()
        go_on.callback(None)
        self.assertEqual(self.heard(), b"*IDN?\n")
        self.say(b"ACME\n")
        self.assertIsInstance(ends[0], ConnectionLost)
        self.assertIn("in the middle of this transaction", str(ends[0]))
        self.assertEqual(ends[1], "ACME\n")

    def test_reconnected_by_somebody_else(self) -> None:
        """
        It is the same when another part of the program connects anew.
        """
        dmm = self.connected()
        go_on, ends = self.begun(dmm)
        dmm.reconnect()
        self.turn()
        self.turn()
        go_on.callback(None)
        self.assertEqual(self.heard(), b"*IDN?\n")
        self.assertIsInstance(ends[0], ConnectionLost)

    def test_others(self) -> None:
        """
        Operations outside of the transaction are not concerned.
        """
        dmm = self.connected()
        go_on, _ends = self.begun(dmm)
        self.device.transport.abortConnection()
        self.turn()
        dmm.connect()
        self.turn()
        other = dmm.query("OTHER?")
        go_on.callback(None)
        self.assertEqual(self.heard(), b"*IDN?\n")
        self.say(b"ACME\n")
        self.assertEqual(self.heard(), b"OTHER?\n")
        self.say(b"1\n")
        self.assertEqual(self.successResultOf(other), "1\n")


class SendTests(InstrumentTestCase):
    """
    SOCS's send connects again by itself; in a transaction that does not hide that what was set may be gone.
    """

    def sending(self, dmm: Any) -> list[Any]:
        """Begin a transaction, end the connection in it, and send twice; gives the ends."""
        ends: list[Any] = []

        async def several() -> None:
            async with dmm.transaction():
                await dmm.write("CONF:VOLT")
                await dmm.disconnect()
                for _ in range(2):
                    try:
                        ends.append(await dmm.send(b"READ?\n"))
                    except ConnectionError as error:
                        ends.append(error)

        Deferred.fromCoroutine(several())
        for _ in range(3):
            self.turn()
        return ends

    def test_in_a_transaction(self) -> None:
        """
        The first send after the loss fails, the second one is done; both end.
        """
        dmm = self.connected()
        ends = self.sending(dmm)
        self.assertIsInstance(ends[0], ConnectionLost)
        self.assertEqual(ends[1:], [6])
        self.assertEqual(self.heard(), b"READ?\n")

    def test_not_sent_again(self) -> None:
        """
        One that waited in a transaction when the connection was lost is not sent again on another one.
        """
        dmm = self.connected()
        sent: list[Deferred[int]] = []

        async def several() -> None:
            async with dmm.transaction():
                first = dmm.query("SET?")
                sent.append(dmm.send(b"READ?\n"))
                await first

        failed = Deferred.fromCoroutine(several())
        self.assertEqual(self.heard(), b"SET?\n")
        self.device.transport.abortConnection()
        self.turn()
        self.failureResultOf(failed, ConnectionLost)
        self.failureResultOf(sent[0], ConnectionLost)


class SendAfterTimeoutTests(InstrumentTestCase):
    """
    SOCS's send and recv: an answer that is late is none to the next bytes that are sent.
    """

    def test_late_answer(self) -> None:
        """
        After a recv that got nothing in time the connection is made anew before the next bytes are sent.
        """
        dmm = self.connected()
        self.successResultOf(dmm.send(b"A"))
        received = dmm.recv()
        self.clock.advance(5.0)
        self.failureResultOf(received, EquipmentTimeout)
        late = self.device
        sent = dmm.send(b"B")
        late.transport.write(b"answer to A")
        self.turn()
        self.turn()
        self.successResultOf(sent)
        self.assertEqual(self.heard(), b"B")
        received = dmm.recv()
        self.say(b"answer to B")
        self.assertEqual(self.successResultOf(received), b"answer to B")

    def test_in_order(self) -> None:
        """
        Without a timeout nothing is dropped: two may be sent before the first answer is received.
        """
        dmm = self.connected()
        self.successResultOf(dmm.send(b"A"))
        self.say(b"answer to A")
        self.successResultOf(dmm.send(b"B"))
        self.assertEqual(self.successResultOf(dmm.recv()), b"answer to A")
