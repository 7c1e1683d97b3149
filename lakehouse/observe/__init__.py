"""Who is told of a run while it works and when it has ended: one file a system, found by lying here.

`events` says what there is to hear of a run, `watching` tells it; each other module is a system's, with the function of
`Observer`. A module of a receiver that a job names under `notify` says only what that one gets (`notify.Message`).
Nothing here decides anything of a run, and nothing that fails here ends one.
"""

from lakehouse.observe.watching import Watched, watch

__all__ = ["Watched", "watch"]
