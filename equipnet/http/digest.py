"""
Who we are over HTTP: Digest (RFC 7616, and RFC 2069 for old devices) and Basic (RFC 7617), for either side.

`Login` is the client's side, `Guard` the server's; neither reads or writes anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from equipnet.errors import AuthenticationFailed

_HASHES: Mapping[str, Callable[[bytes], Any]] = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}

#: Which hash is better than which; algorithms of one rank are taken in the server's order (RFC 7616, 3.7).
_RANKS = {"MD5": 1, "SHA-256": 2}

#: How many nonces a `Guard` remembers; the oldest is forgotten, which its user takes for a stale one.
NONCES = 1000

# Pieces between commas, which may be in quoted strings; one that never ends takes the rest.
_PIECE = re.compile(r'(?:"(?:[^"\\]|\\.)*\\?(?:"|\Z)|[^,"])+', re.DOTALL)
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'(?:({_TOKEN})[ \t]+)?({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))', re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+([0-9A-Za-z._~+/-]+=*))?")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Challenge:
    """
    One way to say who we are, as ``WWW-Authenticate`` offers it; or the answer in ``Authorization``.

    Parameters
    ----------
    scheme
        ``"digest"``, ``"basic"``, ..., in small letters.
    parameters
        The values by their names in small letters, without quotes. A text that is no list of them (RFC 9110's token68)
        has the name ``""``.
    """

    scheme: str
    parameters: Mapping[str, str] = field(repr=False)


def parse_challenges(values: Iterable[bytes]) -> list[Challenge]:
    """
    Give the challenges in the values of ``WWW-Authenticate`` headers, of which each may hold several.

    What does not fit the grammar of RFC 9110 (11.6.1) is passed over.
    """
    found: list[Challenge] = []
    for value in values:
        parameters: dict[str, str] | None = None
        for piece in _PIECE.findall(_text(value)):
            piece = piece.strip()
            # This comes first: "Basic YTpiYw==" could be a parameter of that name, too.
            scheme = _SCHEME.fullmatch(piece)
            parameter = None if scheme else _PARAMETER.fullmatch(piece)
            name = parameter[1] if parameter else scheme and scheme[1]
            if name:
                parameters = {}
                found.append(Challenge(name.lower(), parameters))
            if parameters is None:
                continue
            if parameter:
                quoted, plain = parameter[3], parameter[4]
                parameters[parameter[2].lower()] = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            elif scheme and scheme[2]:
                parameters[""] = scheme[2]
    return found


@dataclass(frozen=True)
class Authorization:
    """
    The value of one request's ``Authorization`` header.

    Parameters
    ----------
    value
        The value.
    fresh
        Whether nothing that could have gone out of date is in it: if it is refused, then for the name or the password.
    """

    value: bytes = field(repr=False)
    fresh: bool


class Login:
    """
    Our name and password at one server, and what that server last asked for.

    A nonce of the server is used again for as long as the server takes it, so that only the first request is asked for
    twice. Requests may be under way at once: each has its own count.

    Parameters
    ----------
    username, password
        Who we are.
    basic
        Whether the password may be sent as it is, for a server that asks for that: over TLS, or where somebody allowed
        it.
    make_cnonce
        Makes our part of each answer, one for each nonce of the server.

    Raises
    ------
    ValueError
        When the name has a control character in it.
    """

    def __init__(
        self, username: str, password: str, *, basic: bool = False, make_cnonce: Callable[[], str] = secrets.token_hex
    ) -> None:
        if _UNSAFE.search(username):
            raise ValueError("a user's name has no control characters")
        self.username = username
        self.basic = basic
        self._password = password
        self._make_cnonce = make_cnonce
        self._answers: _DigestAnswers | Authorization | None = None

    def authorization(self, method: str, uri: str) -> Authorization | None:
        """
        Give what a request should say.

        Parameters
        ----------
        method
            ``"GET"``.
        uri
            The path and the query, as the request line has them.

        Returns
        -------
        Authorization or None
            None as long as the server has not asked.
        """
        if isinstance(self._answers, _DigestAnswers):
            return self._answers.next(method, uri)
        return self._answers

    def answer(
        self, challenges: Iterable[bytes], method: str, uri: str, refused: Authorization | None
    ) -> Authorization:
        """
        Give what a request should say that is made again after a 401; there is no sense in making it a third time.

        Parameters
        ----------
        challenges
            The values of the answer's ``WWW-Authenticate`` headers. The strongest of them that we know is taken.
        method, uri
            As `authorization`.
        refused
            What the request had said.

        Raises
        ------
        AuthenticationFailed
            When what was said can only have been refused for the name or the password, or the server asks for nothing
            that we can answer.
        """
        offered = parse_challenges(challenges)
        self._answers = None
        stale = any(each.parameters.get("stale", "").lower() == "true" for each in offered)
        if refused is not None and refused.fresh and not stale:
            raise self.refused()
        best = max(offered, key=self._rank, default=None)
        if best is None or not self._rank(best):
            raise AuthenticationFailed(self._why_not(offered))
        if best.scheme == "basic":
            token = base64.b64encode(f"{self.username}:{self._password}".encode())
            self._answers = basic = Authorization(b"Basic " + token, fresh=True)
            return basic
        # Other requests may be given other nonces at the same time; this one uses its own.
        self._answers = answers = _DigestAnswers(self.username, self._password, best.parameters, self._make_cnonce())
        return answers.next(method, uri)

    def refused(self) -> AuthenticationFailed:
        """Give the error for an answer that was refused, and forget what the server asked for."""
        self._answers = None
        return AuthenticationFailed(f"the name {self.username!r} or its password is refused")

    def __repr__(self) -> str:
        return f"<Login {self.username!r}>"

    def _rank(self, challenge: Challenge) -> int:
        """Give how good an answer to a challenge would be, counted from 1; 0 where we have none."""
        if challenge.scheme == "basic":
            # Basic has no way to say such a name (RFC 7617, 2).
            return int(self.basic and ":" not in self.username)
        parameters = challenge.parameters
        qop = parameters.get("qop")
        if challenge.scheme != "digest" or not parameters.keys() >= {"realm", "nonce"}:
            return 0
        if qop is not None and "auth" not in _words(qop):
            return 0
        hash_name, _ = _algorithm(parameters)
        return 1 + _RANKS[hash_name] if hash_name in _RANKS else 0

    def _why_not(self, offered: list[Challenge]) -> str:
        if not self.basic and any(each.scheme == "basic" for each in offered):
            return "the server wants the password in the clear (Basic) over plain HTTP, which is not allowed"
        asked = [f"{each.scheme} {each.parameters.get('algorithm', '')}".strip() for each in offered]
        return f"the server asks for {', '.join(asked) or 'nothing known'}, which we cannot answer"


class _DigestAnswers:
    """The answers to one Digest challenge."""

    def __init__(self, username: str, password: str, parameters: Mapping[str, str], cnonce: str) -> None:
        self._username = username
        self._parameters = parameters
        self._has_qop = "qop" in parameters
        # One for all answers: then it is the same session key however the server reads RFC 7616, 3.4.2.
        self._cnonce = cnonce
        self._key = _key(parameters, username, password, cnonce)
        self._count = 0

    def next(self, method: str, uri: str) -> Authorization:
        self._count += 1
        given = self._parameters
        count = f"{self._count:08x}"
        values = {"username": self._username, "realm": given["realm"], "uri": uri}
        if "algorithm" in given:
            values["algorithm"] = given["algorithm"]
        values["nonce"] = given["nonce"]
        if self._has_qop:
            values |= {"nc": count, "cnonce": self._cnonce, "qop": "auth"}
        elif _algorithm(given)[1]:
            values["cnonce"] = self._cnonce
        values["response"] = _response(given, self._key, method, uri, count if self._has_qop else None, self._cnonce)
        if "opaque" in given:
            values["opaque"] = given["opaque"]
        return Authorization(b"Digest " + _bytes(_parameters(values)), fresh=self._count == 1)


class Verdict(Enum):
    """What a `Guard` says about a request."""

    #: It may pass.
    GOOD = "good"
    #: It may not, and the server must ask who it is from.
    NOBODY = "nobody"
    #: It has the right name and password with a nonce that is too old or was used up.
    STALE = "stale"
    #: It has a wrong name or password.
    WRONG = "wrong"


class Guard:
    """
    Lets one user in, by Digest and, where that is among the algorithms, by Basic.

    Parameters
    ----------
    username, password
        Who may come in.
    realm
        What is guarded, in words.
    seconds
        Gives the present time.
    algorithms
        What is offered, the best first: ``"SHA-256"``, ``"SHA-256-sess"``, ``"MD5"``, ``"MD5-sess"``, ``"Basic"``.
    qop
        Whether answers must be counted; without it they are those of RFC 2069.
    lifetime
        Seconds for which a nonce is good.
    uses
        How often a nonce may be used.
    make_nonce
        Makes the nonces.
    """

    def __init__(
        self,
        username: str,
        password: str,
        realm: str,
        seconds: Callable[[], float],
        *,
        algorithms: Iterable[str] = ("SHA-256", "MD5"),
        qop: bool = True,
        lifetime: float = 300.0,
        uses: int = 10000,
        make_nonce: Callable[[], str] = secrets.token_hex,
    ) -> None:
        self.realm = realm
        self._username = username
        self._password = password
        self._seconds = seconds
        self._algorithms = tuple(algorithms)
        known = {"Basic", *(name + end for name in _HASHES for end in ("", "-sess"))}
        if not self._algorithms or not known.issuperset(self._algorithms):
            raise ValueError(f"algorithms are {', '.join(self._algorithms)}, not of {', '.join(sorted(known))}")
        self._qop = qop
        self._lifetime = lifetime
        self._uses = uses
        self._make_nonce = make_nonce
        # When each nonce ends, and the counts that it was used with.
        self._nonces: dict[str, tuple[float, set[str]]] = {}

    def challenges(self, stale: bool = False) -> list[bytes]:
        """Give the values of the ``WWW-Authenticate`` headers of a 401; ``stale`` as the verdict was."""
        nonce = self._make_nonce()
        while len(self._nonces) >= NONCES:
            del self._nonces[next(iter(self._nonces))]
        self._nonces[nonce] = (self._seconds() + self._lifetime, set())
        return [_bytes(self._challenge(algorithm, nonce, stale)) for algorithm in self._algorithms]

    def verify(self, method: str, uri: str, authorization: bytes | None) -> Verdict:
        """
        Say what to do with a request.

        Parameters
        ----------
        method, uri
            As its first line has them.
        authorization
            The value of its ``Authorization`` header, None where it has none.
        """
        if authorization is None:
            return Verdict.NOBODY
        said = parse_challenges([authorization])
        if len(said) != 1:
            return Verdict.WRONG
        parameters = said[0].parameters
        if said[0].scheme == "basic":
            return Verdict.GOOD if self._is_basic(parameters.get("", "")) else Verdict.WRONG
        if said[0].scheme != "digest" or not self._is_ours(method, uri, parameters):
            return Verdict.WRONG
        ends, used = self._nonces.get(parameters["nonce"], (0.0, set()))
        count = parameters.get("nc", str(len(used)))
        if self._seconds() >= ends or count in used or len(used) >= self._uses:
            return Verdict.STALE
        used.add(count)
        return Verdict.GOOD

    def __repr__(self) -> str:
        return f"<Guard of {self.realm!r} for {self._username!r}>"

    def _challenge(self, algorithm: str, nonce: str, stale: bool) -> str:
        if algorithm == "Basic":
            return f"Basic {_parameters({'realm': self.realm, 'charset': 'UTF-8'})}"
        values = {"realm": self.realm, "algorithm": algorithm, "nonce": nonce}
        text = f"Digest {_parameters(values)}"
        # A challenge's qop is a list, in quotes; an answer's is one word, without.
        return text + (', qop="auth"' if self._qop else "") + (", stale=true" if stale else "")

    def _is_basic(self, token: str) -> bool:
        try:
            said = base64.b64decode(token, validate=True)
        except binascii.Error:
            return False
        return "Basic" in self._algorithms and hmac.compare_digest(said, f"{self._username}:{self._password}".encode())

    def _is_ours(self, method: str, uri: str, said: Mapping[str, str]) -> bool:
        """Tell whether an answer has our name, password and realm, and is about this request."""
        if not said.keys() >= {"username", "realm", "nonce", "uri", "response"}:
            return False
        name, is_session = _algorithm(said)
        if name + ("-sess" if is_session else "") not in self._algorithms:
            return False
        if self._qop and not (said.keys() >= {"nc", "cnonce"} and said.get("qop") == "auth"):
            return False
        if (said["username"], said["realm"], said["uri"]) != (self._username, self.realm, uri):
            return False
        cnonce = said.get("cnonce", "")
        key = _key(said, self._username, self._password, cnonce)
        right = _response(said, key, method, uri, said["nc"] if self._qop else None, cnonce)
        return hmac.compare_digest(_bytes(said["response"]), right.encode())


def _algorithm(parameters: Mapping[str, str]) -> tuple[str, bool]:
    """Give the hash, and whether the key is one of a session (RFC 7616, 3.3)."""
    name = parameters.get("algorithm", "MD5").upper()
    return name.removesuffix("-SESS"), name.endswith("-SESS")


def _hash(parameters: Mapping[str, str], *pieces: str) -> str:
    digest: str = _HASHES[_algorithm(parameters)[0]](_bytes(":".join(pieces))).hexdigest()
    return digest


def _key(parameters: Mapping[str, str], username: str, password: str, cnonce: str) -> str:
    """Give H(A1) of RFC 7616, 3.4.2."""
    key = _hash(parameters, username, parameters["realm"], password)
    return _hash(parameters, key, parameters["nonce"], cnonce) if _algorithm(parameters)[1] else key


def _response(parameters: Mapping[str, str], key: str, method: str, uri: str, count: str | None, cnonce: str) -> str:
    """Give what RFC 7616, 3.4.1 says; without a count what RFC 2069 says."""
    counted = () if count is None else (count, cnonce, "auth")
    return _hash(parameters, key, parameters["nonce"], *counted, _hash(parameters, method, uri))


def _parameters(values: Mapping[str, str]) -> str:
    # RFC 7616, 3.4 and 3.5: these have no quotes, all others have them; some devices insist.
    return ", ".join(
        f"{name}={value}" if name in ("algorithm", "nc", "qop") else f'{name}="{_quoted(value)}"'
        for name, value in values.items()
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _words(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(",")]


# What is not UTF-8 comes back as the bytes it was: a hash is one of bytes.


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
