from collections.abc import Callable

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from equipnet.connection.address import Address, parse_address, parse_listen
from equipnet.errors import AddressError, EquipmentError

#: Text, the address it is, and how that address is written.
EQUIPMENT = [
    ("tcp:10.0.0.5:5000", Address("tcp", "10.0.0.5", 5000), "tcp:10.0.0.5:5000"),
    ("TCP:dmm.lab:1", Address("tcp", "dmm.lab", 1), "tcp:dmm.lab:1"),
    ("tls:dmm-2.lab:65535", Address("tls", "dmm-2.lab", 65535), "tls:dmm-2.lab:65535"),
    ("Udp:dmm:2000", Address("udp", "dmm", 2000), "udp:dmm:2000"),
    ("unix:/run/a b:c.sock", Address("unix", path="/run/a b:c.sock"), "unix:/run/a b:c.sock"),
    ("UNIX:/run/X", Address("unix", path="/run/X"), "unix:/run/X"),
    ("dmm.lab:5025", Address("tcp", "dmm.lab", 5025), "tcp:dmm.lab:5025"),
    ("  dmm.lab:5025\n", Address("tcp", "dmm.lab", 5025), "tcp:dmm.lab:5025"),
    ("dmm_1:0080", Address("tcp", "dmm_1", 80), "tcp:dmm_1:80"),
    ("[fd00::1]:5025", Address("tcp", "fd00::1", 5025), "tcp:[fd00::1]:5025"),
    ("tcp:[::1]:5025", Address("tcp", "::1", 5025), "tcp:[::1]:5025"),
    ("udp:[::FFFF:1.2.3.4]:5", Address("udp", "::FFFF:1.2.3.4", 5), "udp:[::FFFF:1.2.3.4]:5"),
    ("tls:[fe80::1%br-lab]:5", Address("tls", "fe80::1%br-lab", 5), "tls:[fe80::1%br-lab]:5"),
    ("TCP::192.168.1.100::5025", Address("tcp", "192.168.1.100", 5025), "tcp:192.168.1.100:5025"),
    ("tcp::dmm::5025", Address("tcp", "dmm", 5025), "tcp:dmm:5025"),
    ("TCP::[fd00::1]::5025", Address("tcp", "fd00::1", 5025), "tcp:[fd00::1]:5025"),
    ("TCP::dmm::5025::SOCKET", Address("tcp", "dmm", 5025), "tcp:dmm:5025"),
    ("TCP::udp::5025", Address("tcp", "udp", 5025), "tcp:udp:5025"),
    ("UDP::dmm::5025", Address("udp", "dmm", 5025), "udp:dmm:5025"),
    ("Socket::dmm::5025", Address("tcp", "dmm", 5025), "tcp:dmm:5025"),
    ("TCPIP::dmm::5025::SOCKET", Address("tcp", "dmm", 5025), "tcp:dmm:5025"),
    ("tcpip0::dmm::5025::socket", Address("tcp", "dmm", 5025), "tcp:dmm:5025"),
    ("TCPIP12::[::1]::5025::Socket", Address("tcp", "::1", 5025), "tcp:[::1]:5025"),
    ("Prologix::gw::6", Address("tcp", "gw", 1234, gpib=(6,)), "Prologix::gw::1234::6"),
    ("PROLOGIX::gw::1234::6", Address("tcp", "gw", 1234, gpib=(6,)), "Prologix::gw::1234::6"),
    ("prologix::gw::GPIB1::6::96", Address("tcp", "gw", 1234, gpib=(6, 96)), "Prologix::gw::1234::6::96"),
    ("Prologix::gw::1234::gpib::0::126", Address("tcp", "gw", 1234, gpib=(0, 126)), "Prologix::gw::1234::0::126"),
    ("Prologix::[::1]::30", Address("tcp", "::1", 1234, gpib=(30,)), "Prologix::[::1]::1234::30"),
]

LISTEN = [
    ("tcp:9000", Address("tcp", "127.0.0.1", 9000), "tcp:127.0.0.1:9000"),
    ("TCP:0", Address("tcp", "127.0.0.1", 0), "tcp:127.0.0.1:0"),
    ("tls:65535:interface=0.0.0.0", Address("tls", "0.0.0.0", 65535), "tls:0.0.0.0:65535"),
    ("udp:1:INTERFACE=10.0.0.1", Address("udp", "10.0.0.1", 1), "udp:10.0.0.1:1"),
    ("tcp:9000:interface=::1", Address("tcp", "::1", 9000), "tcp:[::1]:9000"),
    ("tcp:9000:interface=[::]", Address("tcp", "::", 9000), "tcp:[::]:9000"),
    (r"tcp:9000:interface=\:\:1", Address("tcp", "::1", 9000), "tcp:[::1]:9000"),
    ("unix:/run/dcss.sock", Address("unix", path="/run/dcss.sock"), "unix:/run/dcss.sock"),
    ("tcp:127.0.0.1:9000", Address("tcp", "127.0.0.1", 9000), "tcp:127.0.0.1:9000"),
    ("tls:[::1]:0", Address("tls", "::1", 0), "tls:[::1]:0"),
    ("127.0.0.1:9000", Address("tcp", "127.0.0.1", 9000), "tcp:127.0.0.1:9000"),
]

NO_EQUIPMENT = [
    "",
    "dmm",
    "dmm:",
    ":5025",
    "dmm:port",
    "tcp:5025",
    "tcp:dmm",
    "ftp:dmm:21",
    "tcp:dmm:5025:interface=1",
    "dmm:0",
    "dmm:65536",
    "dmm:-1",
    "dmm:+1",
    "dmm:1.5",
    "dmm:" + "9" * 5000,
    "dmm:\u0663",
    "d mm:5025",
    "d\u00a0mm:5025",
    "dmm\u200b:5025",
    "http://dmm:80",
    "::1:5025",
    "[]:5025",
    "[::1]",
    "[::g]:5025",
    "[1.2.3.4]:5025",
    "[fe80::1%]:5025",
    "tcp:[::1:5025",
    "unix:relative",
    "unix:",
    "unix:/a\0b",
    "unix:/a\nb",
    "TCP::dmm",
    "TCP::dmm::0",
    "TCP::dmm::65536",
    "TCP::dmm::5025::and::more",
    "TCPIP::dmm::5025",
    "TCPIP::dmm::INSTR",
    "TCPIP::dmm::hislip0",
    "TLS::dmm::5025",
    "Prologix::gw",
    "Prologix::gw::1234",
    "Prologix::gw::31",
    "Prologix::gw::6::31",
    "Prologix::gw::6::127",
    "Prologix::gw::" + "9" * 5000,
    "tl\u017f:dmm:5025",
]

NO_PORT = [
    "",
    "9000",
    "tcp",
    "tcp:",
    "tcp:port",
    "tcp:-1",
    "tcp:65536",
    "tcp:" + "9" * 5000,
    "tcp:127.0.0.1:65536",
    "tcp:9000:interface=",
    "tcp:9000:interface=a/b",
    "tcp:9000:interface=a:b",
    "tcp:9000:interface=[::g]",
    "tcp:9000:backlog=5",
    "unix:relative",
    "unix:/a\0b",
    "TCP::127.0.0.1::9000",
    "tls:9000:10.0.0.1:9001",
]


#: How fast the machine is says nothing about the parser.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def reads_or_refuses(test: SynchronousTestCase, parse: Callable[[str], Address], text: str) -> None:
    """Assert that this text is an address which reads back to the same, or is refused as the errors say."""
    try:
        address = parse(text)
    except AddressError as error:
        test.assertIn("; write tcp:", str(error))
        return
    test.assertEqual(parse(str(address)), address)


class ParseAddressTests(SynchronousTestCase):
    """Where a piece of equipment is."""

    def test_forms(self) -> None:
        """Each form is read, in any letter case, and is written in one way."""
        for text, address, written in EQUIPMENT:
            with self.subTest(text=text):
                self.assertEqual(parse_address(text), address)
                self.assertEqual(str(address), written)

    def test_read_back(self) -> None:
        """What is written for an address reads back to the same address."""
        for text, address, _ in EQUIPMENT:
            with self.subTest(text=text):
                self.assertEqual(parse_address(str(address)), address)

    def test_refused(self) -> None:
        """What has none of the forms is refused, with the text and the forms in the error."""
        for text in NO_EQUIPMENT:
            with self.subTest(text=text):
                error = self.assertRaises(AddressError, parse_address, text)
                self.assertIsInstance(error, EquipmentError)
                self.assertIsInstance(error, ValueError)
                self.assertIn(repr(text.strip()), str(error))
                self.assertIn("write tcp:HOST:PORT, tls:HOST:PORT", str(error))
                self.assertIn("Prologix::HOST", str(error))

    def test_port_that_cannot_be(self) -> None:
        """Only a port of 1 to 65535 can be connected to, and the error says so."""
        for port in ("0", "65536", "123456789012345"):
            with self.subTest(port=port):
                error = self.assertRaises(AddressError, parse_address, f"dmm:{port}")
                self.assertIn(f"port {port[:12]} is not 1 to 65535", str(error))

    def test_ipv6_address_that_is_none(self) -> None:
        """Brackets hold an IPv6 address, and the error says when it is none."""
        error = self.assertRaises(AddressError, parse_address, "[::12345]:5025")
        self.assertIn("'::12345' is not an IPv6 address", str(error))

    @unhurried
    @given(st.text() | st.text("tcpudlsnix:/[]%=.0123456789ab\\ "))
    @example("0:1")
    def test_any_text(self, text: str) -> None:
        """Any text at all is an address or an `AddressError`; what is an address reads back to the same."""
        reads_or_refuses(self, parse_address, text)

    @unhurried
    @given(
        st.sampled_from(["tcp:", "tls:", "udp:", "", "TCP::", "UDP::", "SOCKET::", "TCPIP0::", "Prologix::", "unix:/"]),
        st.text(max_size=5) | st.from_regex(r"\[[0-9a-f:.%]{0,8}\]", fullmatch=True) | st.sampled_from(["tcp", "udp"]),
        st.sampled_from([":", "::"]),
        st.from_regex(r"[0-9]{0,6}", fullmatch=True),
        st.sampled_from(["", "::SOCKET", "::96", ":interface=::1"]),
    )
    def test_nearly_an_address(self, scheme: str, host: str, colons: str, port: str, suffix: str) -> None:
        """The same holds for text that looks much like an address."""
        reads_or_refuses(self, parse_address, scheme + host + colons + port + suffix)


class ParseListenTests(SynchronousTestCase):
    """Where we listen."""

    def test_forms(self) -> None:
        """Each form is read, in any letter case; without an interface it is this machine alone."""
        for text, address, written in LISTEN:
            with self.subTest(text=text):
                self.assertEqual(parse_listen(text), address)
                self.assertEqual(str(address), written)
                self.assertEqual(parse_listen(written), address)

    def test_refused(self) -> None:
        """What has none of the forms is refused, with the text and the forms in the error."""
        for text in NO_PORT:
            with self.subTest(text=text):
                error = self.assertRaises(AddressError, parse_listen, text)
                self.assertIn(repr(text), str(error))
                self.assertIn("write tcp:PORT[:interface=IP]", str(error))

    def test_port_that_cannot_be(self) -> None:
        """A port of 0 to 65535 can be bound, and the error says so."""
        error = self.assertRaises(AddressError, parse_listen, "tcp:65536")
        self.assertIn("port 65536 is not 0 to 65535", str(error))

    @unhurried
    @given(st.text() | st.text("tcpudlsnix:/[]%=.0123456789ab\\ "))
    def test_any_text(self, text: str) -> None:
        """Any text at all is an address or an `AddressError`; what is an address reads back to the same."""
        reads_or_refuses(self, parse_listen, text)

    @unhurried
    @given(
        st.sampled_from(["tcp:", "tls:", "udp:", "unix:/", ""]),
        st.from_regex(r"[0-9]{0,6}", fullmatch=True),
        st.sampled_from(["", ":interface=", ":interface=[", ":1"]),
        st.text(max_size=5) | st.text("0123456789abcdef:.%]\\", max_size=8),
    )
    def test_nearly_an_address(self, scheme: str, port: str, option: str, interface: str) -> None:
        """The same holds for text that looks much like an address."""
        reads_or_refuses(self, parse_listen, scheme + port + option + interface)
