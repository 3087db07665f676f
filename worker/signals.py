"""The signals that tell a worker to leave."""

import signal

NOTICES = (signal.SIGUSR1,)
"""A scheduler's word that the machine will be taken away (preemption, the end of a job's time), early or twice.

A notice never cuts short what an earlier signal has begun.
"""

LEAVE = (signal.SIGTERM, signal.SIGINT, *NOTICES)
