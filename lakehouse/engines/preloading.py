"""Imported by the fork server of local workers, and by nobody else: what they would all import and load (`forking`)."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress

from lakehouse.engines.forking import PRELOAD, say_ready, start_over_if_threaded

if PRELOAD in os.environ:  # not again after it has started over
    with suppress(Exception):  # a worker that can't do without says so
        from lakehouse import models
        from lakehouse.engines import local  # noqa: F401  # with all that a worker runs

        for folder, digest, method, params in json.loads(os.environ.pop(PRELOAD)):
            frozen = tuple((name, value) for name, value in params)
            models.keep(models.load(folder, digest, method, frozen), digest, method, frozen)
    sys.stdout.flush()
    start_over_if_threaded()
say_ready()
