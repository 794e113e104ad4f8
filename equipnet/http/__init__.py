"""What the kinds that speak HTTP share: who we are, one pool of sockets, limits of time and size, and one life."""

from equipnet.http.digest import Guard, Login, Verdict

__all__ = ["Guard", "Login", "Verdict"]
