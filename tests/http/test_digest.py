from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any
from urllib.request import HTTPDigestAuthHandler, HTTPPasswordMgr, Request, parse_http_list, parse_keqv_list

from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.credentials import DigestCredentialFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from equipnet.errors import AuthenticationFailed
from equipnet.http.digest import NONCES, Challenge, Guard, Login, Verdict, parse_challenges

# RFC 7616, 3.9.1.
REALM = "http-auth@example.org"
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
SHA_256_CHALLENGE = (
    b'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
    b'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
MD5_CHALLENGE = SHA_256_CHALLENGE.replace(b"SHA-256", b"MD5")
MD5_ANSWER = (
    b'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5, '
    b'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
    b'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, '
    b'response="8ca523f5e9506fed4657c9700eebdbec", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
SHA_256_ANSWER = MD5_ANSWER.replace(b"MD5", b"SHA-256").replace(
    b"8ca523f5e9506fed4657c9700eebdbec", b"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
)
# RFC 2617, 3.5.
RFC_2617_CHALLENGE = (
    b'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
    b'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
RFC_2617_ANSWER = (
    b'Digest username="Mufasa", realm="testrealm@host.com", uri="/dir/index.html", '
    b'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", nc=00000001, cnonce="0a4f113b", qop=auth, '
    b'response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
# RFC 2069, 2.4, with the response of its erratum 749.
RFC_2069_CHALLENGE = (
    b'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
    b'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
RFC_2069_ANSWER = (
    b'Digest username="Mufasa", realm="testrealm@host.com", uri="/dir/index.html", '
    b'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", response="1949323746fe6a43ef61f9606e7febea", '
    b'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)
URI = "/dir/index.html"


class ParseTests(SynchronousTestCase):
    def parsed(self, *values: bytes) -> list[tuple[str, dict[str, str]]]:
        return [(each.scheme, dict(each.parameters)) for each in parse_challenges(values)]

    def test_several(self) -> None:
        """
        One header may hold several challenges, and quotes what it likes (the example of RFC 9110, 11.6.1).
        """
        value = b'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'
        self.assertEqual(
            self.parsed(value, b"NTLM"),
            [
                ("basic", {"realm": "simple"}),
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
                ("ntlm", {}),
            ],
        )

    def test_loose(self) -> None:
        """
        Capitals, blanks, empty places in the list, commas in quotes and values without quotes are all understood.
        """
        self.assertEqual(
            self.parsed(b', DIGEST  Realm = "a, b=c" ,,nonce=x/y==,QOP=auth,\tstale = TRUE', b"Negotiate oYG2+/=="),
            [
                ("digest", {"realm": "a, b=c", "nonce": "x/y==", "qop": "auth", "stale": "TRUE"}),
                ("negotiate", {"": "oYG2+/=="}),
            ],
        )

    def test_rubbish(self) -> None:
        """
        What is no challenge is passed over: the others in the header are found.
        """
        self.assertEqual(
            self.parsed(b'realm="lost", =, ;;, Basic realm="x" y, Digest a="1", "never ends, b=2', b"", b'"', b"\xff"),
            [("digest", {"a": "1"})],
        )

    @given(st.text('aB1 ,="\\\t;/').map(str.encode))
    def test_anything(self, value: bytes) -> None:
        """
        No header is an error.
        """
        parse_challenges([value])

    def test_long_quotes(self) -> None:
        """
        A header of nothing but open quotes takes no time worth mentioning: it is read once.
        """
        self.assertEqual(parse_challenges([b'Digest a="' + b'\\"' * 100_000]), [])


class LoginTests(SynchronousTestCase):
    def login(self, password: str = "Circle of Life", cnonce: str = CNONCE, basic: bool = False) -> Login:
        return Login("Mufasa", password, basic=basic, make_cnonce=lambda: cnonce)

    def answer(self, challenge: bytes, password: str = "Circle of Life", cnonce: str = CNONCE) -> bytes:
        return self.login(password, cnonce).answer([challenge], "GET", URI, None).value

    def test_rfc_7616(self) -> None:
        """
        The answers are those of RFC 7616, 3.9.1, for either hash.
        """
        self.assertEqual(self.answer(MD5_CHALLENGE), MD5_ANSWER)
        self.assertEqual(self.answer(SHA_256_CHALLENGE), SHA_256_ANSWER)

    def test_rfc_2617(self) -> None:
        """
        The answer to a challenge without an algorithm is that of RFC 2617, 3.5.
        """
        self.assertEqual(self.answer(RFC_2617_CHALLENGE, "Circle Of Life", "0a4f113b"), RFC_2617_ANSWER)

    def test_rfc_2069(self) -> None:
        """
        The answer to a challenge without qop is that of RFC 2069.
        """
        self.assertEqual(self.answer(RFC_2069_CHALLENGE, "CircleOfLife"), RFC_2069_ANSWER)

    def test_session(self) -> None:
        """
        With ``-sess`` the key is made of the first nonces (RFC 7616, 3.4.2), in every answer.
        """
        login = self.login()
        first = login.answer([SHA_256_CHALLENGE.replace(b"SHA-256", b"SHA-256-sess")], "GET", URI, None)
        second = login.authorization("GET", URI)
        assert second is not None
        # Computed apart, piece by piece, with plain SHA-256.
        for said, nc, response in (
            (first, b"00000001", b"2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7"),
            (second, b"00000002", b"6bb0010aa4bdf46422a798c509ea32e256f27bd37de5cc3bdf8ed51e1d77d650"),
        ):
            self.assertIn(b"nc=" + nc, said.value)
            self.assertIn(b"algorithm=SHA-256-sess", said.value)
            self.assertIn(b'response="' + response, said.value)

    def test_strongest(self) -> None:
        """
        Of several challenges, in one header or in several, the strongest is taken wherever it stands.
        """
        for challenges in (
            [MD5_CHALLENGE, SHA_256_CHALLENGE, b'Basic realm="x"'],
            [b'Basic realm="x", ' + SHA_256_CHALLENGE + b", " + MD5_CHALLENGE],
            [SHA_256_CHALLENGE.replace(b"SHA-256", b"SHA-512"), SHA_256_CHALLENGE],
            [SHA_256_CHALLENGE.replace(b"auth, auth-int", b"auth-int"), SHA_256_CHALLENGE],
        ):
            with self.subTest(challenges=challenges):
                self.assertEqual(self.login(basic=True).answer(challenges, "GET", URI, None).value, SHA_256_ANSWER)

    def test_basic(self) -> None:
        """
        The answer to Basic is that of RFC 7617, 2 and 2.1, and is given from the first request on afterwards.
        """
        for name, password, value in (
            ("Aladdin", "open sesame", b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test", "123\u00a3", b"Basic dGVzdDoxMjPCow=="),
        ):
            login = Login(name, password, basic=True)
            self.assertIsNone(login.authorization("GET", "/"))
            said = login.answer([b'Basic realm="WallyWorld"'], "GET", "/", None)
            self.assertEqual(said.value, value)
            self.assertEqual(login.authorization("GET", "/"), said)

    def test_basic_in_the_clear(self) -> None:
        """
        A password is never sent as it is to a server where that is not allowed, and the error says so.
        """
        error = self.assertRaises(AuthenticationFailed, self.login().answer, [b'Basic realm="x"'], "GET", "/", None)
        self.assertIn("in the clear (Basic) over plain HTTP, which is not allowed", str(error))

    def test_nothing_known(self) -> None:
        """
        The error for what cannot be answered says what the server asks for.
        """
        for challenges, words in (
            ([], "the server asks for nothing known"),
            ([b"NTLM", b'Digest realm="x", nonce="y", algorithm=SHA-1'], "asks for ntlm, digest SHA-1, which"),
            ([b'Digest realm="x"'], "asks for digest, which"),
        ):
            with self.subTest(challenges=challenges):
                error = self.assertRaises(AuthenticationFailed, self.login().answer, challenges, "GET", "/", None)
                self.assertIn(words, str(error))

    def test_colon(self) -> None:
        """
        A name with a colon is not told by Basic, which would tell another one.
        """
        login = Login("a:b", "c", basic=True)
        self.assertRaises(AuthenticationFailed, login.answer, [b'Basic realm="x"'], "GET", "/", None)

    def test_counts(self) -> None:
        """
        A nonce is used again, with the next count for each request.
        """
        login = self.login()
        said = [login.answer([SHA_256_CHALLENGE], "GET", URI, None)]
        for _ in range(11):
            again = login.authorization("GET", URI)
            assert again is not None
            said.append(again)
        counts = [parse_challenges([each.value])[0].parameters["nc"] for each in said]
        self.assertEqual(counts, [f"{number:08x}" for number in range(1, 13)])

    def test_own_nonce(self) -> None:
        """
        Requests that are asked at the same time answer with the nonce that each was given.
        """
        login = self.login()
        said = [
            login.answer([b'Digest realm="x", qop="auth", nonce="%s"' % nonce], "GET", "/", None).value
            for nonce in (b"one", b"two")
        ]
        for nonce, value in zip((b"one", b"two"), said, strict=True):
            self.assertIn(b'nonce="%s", nc=00000001' % nonce, value)

    def test_wrong_password(self) -> None:
        """
        A fresh answer that is refused is not given again; the next request asks first.
        """
        login = self.login()
        said = login.answer([SHA_256_CHALLENGE], "GET", URI, None)
        error = self.assertRaises(AuthenticationFailed, login.answer, [SHA_256_CHALLENGE], "GET", URI, said)
        self.assertEqual(str(error), "the name 'Mufasa' or its password is refused")
        self.assertIsNone(login.authorization("GET", URI))

    def test_stale(self) -> None:
        """
        A nonce that the server calls stale is replaced by its new one, also in a fresh answer.
        """
        login = self.login()
        said = login.answer([SHA_256_CHALLENGE.replace(b"7ypf", b"old")], "GET", URI, None)
        self.assertEqual(
            login.answer([SHA_256_CHALLENGE + b", stale=TRUE"], "GET", URI, said).value,
            SHA_256_ANSWER,
        )

    def test_used_before(self) -> None:
        """
        An answer that is refused after the nonce had been used before is given again with the new nonce: there are
        servers that do not say stale.
        """
        login = self.login()
        login.answer([SHA_256_CHALLENGE.replace(b"7ypf", b"old")], "GET", URI, None)
        said = login.authorization("GET", URI)
        self.assertEqual(login.answer([SHA_256_CHALLENGE], "GET", URI, said).value, SHA_256_ANSWER)

    def test_quotes(self) -> None:
        """
        Quotes in names are escaped in the header, and bytes that are no UTF-8 come back as they were.
        """
        said = Login('a"b', "c").answer([b'Digest realm="r\\"\xe9", nonce="n\\\\"'], "GET", "/", None)
        self.assertIn(b'username="a\\"b", realm="r\\"\xe9", uri="/", nonce="n\\\\"', said.value)

    def test_control_characters(self) -> None:
        """
        A name cannot smuggle in a header.
        """
        self.assertRaises(ValueError, Login, "a\r\nHost: b", "c")

    def test_repr(self) -> None:
        """
        Neither the password nor what was made of it is shown.
        """
        login = Login("Aladdin", "open sesame", basic=True)
        said = login.answer([b'Basic realm="x"'], "GET", "/", None)
        for shown in (repr(login), repr(said)):
            self.assertNotIn("sesame", shown)
            self.assertNotIn("QWxh", shown)
        self.assertNotIn("sesame", repr(Challenge("basic", {"": "sesame"})))


class GuardTests(SynchronousTestCase):
    def guard(
        self, password: str = "Circle of Life", realm: str = REALM, nonce: str = NONCE, **options: object
    ) -> Guard:
        self.clock = Clock()
        made = count(1)
        guard = Guard(
            "Mufasa",
            password,
            realm,
            self.clock.seconds,
            make_nonce=lambda: nonce if next(made) == 1 else f"{nonce}-{next(made)}",
            **options,  # type: ignore[arg-type]  # these are for one test each
        )
        guard.challenges()
        return guard

    def test_rfc_7616(self) -> None:
        """
        The answers of RFC 7616, 3.9.1, are let in.
        """
        for answer in (MD5_ANSWER, SHA_256_ANSWER):
            self.assertIs(self.guard().verify("GET", URI, answer), Verdict.GOOD)

    def test_rfc_2617(self) -> None:
        """
        So is that of RFC 2617, 3.5.
        """
        guard = self.guard("Circle Of Life", "testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093")
        self.assertIs(guard.verify("GET", URI, RFC_2617_ANSWER), Verdict.GOOD)

    def test_rfc_2069(self) -> None:
        """
        So is that of RFC 2069 where counts are not asked for, but not where they are.
        """
        for qop, verdict in ((False, Verdict.GOOD), (True, Verdict.WRONG)):
            guard = self.guard("CircleOfLife", "testrealm@host.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", qop=qop)
            self.assertIs(guard.verify("GET", URI, RFC_2069_ANSWER), verdict)

    def test_challenges(self) -> None:
        """
        Every algorithm is offered, the best first, and a stale nonce is called so.
        """
        guard = self.guard(algorithms=("SHA-256", "MD5", "Basic"))
        for stale, end in ((False, b""), (True, b", stale=true")):
            sha_256, md5, basic = guard.challenges(stale)
            self.assertRegex(
                sha_256,
                rb'^Digest realm="http-auth@example\.org", algorithm=SHA-256, nonce="[^"]+", qop="auth"' + end + b"$",
            )
            self.assertEqual(md5, sha_256.replace(b"SHA-256", b"MD5"))
            self.assertEqual(basic, b'Basic realm="http-auth@example.org", charset="UTF-8"')

    def test_wrong(self) -> None:
        """
        Nobody gets in with anything that is not exactly right.
        """
        guard = self.guard()
        for answer in (
            SHA_256_ANSWER.replace(b"753927", b"753928"),
            SHA_256_ANSWER.replace(b"Mufasa", b"Scar"),
            SHA_256_ANSWER.replace(b"example.org", b"example.com"),
            SHA_256_ANSWER.replace(b"index", b"other"),
            SHA_256_ANSWER.replace(b"00000001", b"00000002"),
            SHA_256_ANSWER.replace(b"SHA-256", b"SHA-512"),
            SHA_256_ANSWER.replace(b"SHA-256", b"MD5"),
            SHA_256_ANSWER.replace(b" nc=", b" mc="),
            SHA_256_ANSWER.replace(b'response="', b'response="\xff'),
            SHA_256_ANSWER + b", Basic x",
            b"Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl",
            b"Basic \xff",
            b"Digest",
            b"",
        ):
            with self.subTest(answer=answer):
                self.assertIs(guard.verify("GET", URI, answer), Verdict.WRONG)
        self.assertIs(guard.verify("POST", URI, SHA_256_ANSWER), Verdict.WRONG)
        self.assertIs(guard.verify("GET", "/", SHA_256_ANSWER), Verdict.WRONG)
        self.assertIs(guard.verify("GET", URI, None), Verdict.NOBODY)

    def test_replay(self) -> None:
        """
        The same answer is not taken twice.
        """
        guard = self.guard()
        self.assertIs(guard.verify("GET", URI, SHA_256_ANSWER), Verdict.GOOD)
        self.assertIs(guard.verify("GET", URI, SHA_256_ANSWER), Verdict.STALE)

    def test_old(self) -> None:
        """
        A nonce that is too old, or was never given, is stale for those who know the password, and only for them.
        """
        guard = self.guard(lifetime=10.0)
        self.clock.advance(10)
        self.assertIs(guard.verify("GET", URI, SHA_256_ANSWER), Verdict.STALE)
        self.assertIs(guard.verify("GET", URI, SHA_256_ANSWER.replace(b"7539", b"7538")), Verdict.WRONG)

    def test_forgotten(self) -> None:
        """
        Who asks for nonces without end makes older ones stale, and fills no memory.
        """
        guard = self.guard()
        for _ in range(NONCES):
            guard.challenges()
        self.assertIs(guard.verify("GET", URI, SHA_256_ANSWER), Verdict.STALE)

    def test_basic(self) -> None:
        """
        The right password gets in by Basic where that is offered.
        """
        guard = self.guard(algorithms=("Basic",))
        self.assertIs(guard.verify("GET", URI, b"Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZl"), Verdict.GOOD)
        for wrong in (b"Basic TXVmYXNhOkNpcmNsZSBvZiBMaWZm", b"Basic TXV", b"Basic", SHA_256_ANSWER):
            self.assertIs(guard.verify("GET", URI, wrong), Verdict.WRONG)

    def test_padding(self) -> None:
        """
        They are taken whatever their length is, with base64's padding and without (RFC 7617, 2 and 2.1).
        """
        for username, password, said in (
            ("Aladdin", "open sesame", b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("cam", "pass", b"Basic Y2FtOnBhc3M="),
            ("root", "pass", b"Basic cm9vdDpwYXNz"),
        ):
            guard = Guard(username, password, "x", Clock().seconds, algorithms=("SHA-256", "Basic"))
            self.assertIs(guard.verify("POST", "/", said), Verdict.GOOD)

    def test_algorithms(self) -> None:
        """
        An algorithm that there is not, or none at all, is refused.
        """
        for algorithms in ((), ("SHA-1",)):
            self.assertRaises(ValueError, self.guard, algorithms=algorithms)

    def test_repr(self) -> None:
        """
        The password is not shown.
        """
        self.assertNotIn("Circle", repr(self.guard()))


class BothTests(SynchronousTestCase):
    def talk(self, login: Login, guard: Guard, method: str, uri: str) -> list[Verdict]:
        """Make one request as a client does; give the server's verdicts."""
        said = login.authorization(method, uri)
        verdicts = [guard.verify(method, uri, None if said is None else said.value)]
        if verdicts[0] is not Verdict.GOOD:
            challenges = guard.challenges(verdicts[0] is Verdict.STALE)
            said = login.answer(challenges, method, uri, said)
            verdicts.append(guard.verify(method, uri, said.value))
        return verdicts

    def requests(self, algorithms: Iterable[str], qop: bool, name: str, password: str, realm: str) -> None:
        guard = Guard(name, password, realm, Clock().seconds, algorithms=algorithms, qop=qop, uses=2)
        login = Login(name, password, basic=True)
        asked = [self.talk(login, guard, "GET", f"/image?camera={number}") for number in range(4)]
        again = Verdict.STALE if tuple(algorithms) != ("Basic",) else Verdict.GOOD
        self.assertEqual(asked[0], [Verdict.NOBODY, Verdict.GOOD])
        self.assertEqual(asked[1], [Verdict.GOOD])
        self.assertEqual(asked[2][0], again)
        self.assertEqual(asked[2][-1], Verdict.GOOD)
        self.assertEqual(asked[3], [Verdict.GOOD])

    def test_all(self) -> None:
        """
        Either side understands the other with each algorithm, with and without counts; a nonce that is used up costs
        one more request.
        """
        for algorithm in ("SHA-256", "SHA-256-sess", "MD5", "MD5-sess", "Basic"):
            for qop in (True, False):
                with self.subTest(algorithm=algorithm, qop=qop):
                    self.requests((algorithm,), qop, "Mufasa", "Circle of Life", "here")

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), st.text(st.characters(codec="utf-8")))
    def test_any_name(self, name: str, password: str) -> None:
        """
        Names, realms and passwords may be any text.
        """
        self.requests(("SHA-256",), True, name, password, name)


class OthersTests(SynchronousTestCase):
    def test_their_server(self) -> None:
        """
        Twisted's server takes our answers, the first and those with the same nonce, with and without a session key.
        """
        for algorithm in (b"md5", b"md5-sess"):
            factory = DigestCredentialFactory(algorithm, b"a, b=c")
            asked = factory.getChallenge(b"10.0.0.5")
            parameters = b", ".join(b'%s="%s"' % (name.encode(), value) for name, value in asked.items())
            login = Login("root", "se:cret")
            said: Any = login.answer([b"Digest " + parameters], "GET", "/image?camera=1", None)
            for _ in range(3):
                credentials = factory.decode(said.value.removeprefix(b"Digest "), b"GET", b"10.0.0.5")
                self.assertTrue(credentials.checkPassword(b"se:cret"), algorithm)
                self.assertFalse(credentials.checkPassword(b"secret"), algorithm)
                said = login.authorization("GET", "/image?camera=1")

    def test_their_client(self) -> None:
        """
        We take the answers of Python's own client.
        """
        guard = Guard("root", "se:cret", "axis", Clock().seconds, algorithms=("MD5",))
        asked = guard.challenges()[0].decode().removeprefix("Digest ")
        passwords = HTTPPasswordMgr()
        passwords.add_password("axis", "http://axis6/", "root", "se:cret")
        client = HTTPDigestAuthHandler(passwords)
        for verdict in (Verdict.GOOD, Verdict.GOOD):
            said = client.get_authorization(
                Request("http://axis6/image?camera=1"), parse_keqv_list(parse_http_list(asked))
            )
            self.assertIs(guard.verify("GET", "/image?camera=1", f"Digest {said}".encode()), verdict)
