"""Images of cameras: a receiver for those that cameras post, an Axis camera, and a simulated one."""
