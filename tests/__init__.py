"""
The tests of equipnet, in the same tree as what they test.

Both runners import this first, so what holds for both is set here.
"""

import hypothesis

# A machine that is busy with something else is no failure.
hypothesis.settings.register_profile("equipnet", deadline=None, print_blob=True)
hypothesis.settings.load_profile("equipnet")
