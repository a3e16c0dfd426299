"""Imported by every Python that finds this folder on its path when it starts: the processes that tests start."""

import network_guard

network_guard.close()
