"""The client/server socket pair of LSST MTMount, and the protocol of Tekniker's Operation Manager on it."""
