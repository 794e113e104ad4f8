"""What the kinds that speak HTTP share: who we are, one pool of sockets, limits of time and size, and one life."""

from equipnet.http.client import HttpClient, HttpStatus
from equipnet.http.digest import Guard, Login, Verdict
from equipnet.http.exchange import Response
from equipnet.http.service import HttpConnection

__all__ = ["Guard", "HttpClient", "HttpConnection", "HttpStatus", "Login", "Response", "Verdict"]
