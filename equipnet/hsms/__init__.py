"""HSMS (SEMI E37): SECS-II messages over TCP, active and passive."""
