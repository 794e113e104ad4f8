"""The daemon: one configuration file becomes one service tree."""
