"""What the clouds take: the file that they call, their limits, and the systems that they run it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lakehouse.engines.threads import WITHOUT_THREADS
from lakehouse.serving import aws_batches, cloud_function

GLIBC = tuple[int, int]
_QUIET = f"""import gc
import os

gc.disable()  # it would look, again and again, through all that is imported, which stays
for name, value in {dict(WITHOUT_THREADS)!r}.items():
    os.environ.setdefault(name, value)  # before a library is loaded that would start threads
"""
_BEGUN = """gc.freeze()  # and requests need not look through it either
gc.enable()"""
_HERE = "os.path.dirname(os.path.abspath(__file__))"
_LAMBDA = f'''"""What Lambda calls. Made by `lakehouse package`."""

{_QUIET}
from lakehouse.serving.aws_lambda import handler_for  # noqa: E402

lambda_handler = handler_for({_HERE})
{_BEGUN}
'''
_FUNCTION = f'''"""What Google's functions framework calls. Made by `lakehouse package`."""

{_QUIET}
import functions_framework  # noqa: E402

from lakehouse.serving.cloud_function import entries  # noqa: E402

_http, _event = entries({_HERE})
{_BEGUN}


@functions_framework.http
def http(request):
    """Answer a request."""
    return _http(request)


@functions_framework.cloud_event
def event(cloud_event):
    """Score the rows of an event."""
    _event(cloud_event)
'''


@dataclass(frozen=True)
class Kind:
    """A cloud's functions. `file`, `text`: what it calls; `entry`: how that is named to it.

    `runtimes`: by Python's version the glibc that it has there; `most`: bytes that it takes, unzipped; `zipped`: of the
    zip, if it is not sent by way of a storage; `inside`: libraries are in the zip, else it installs those listed.
    `listed`: what is listed beside them. `answers_place`: reads where answers to messages go, or raises ConfigError.
    """

    name: str
    file: str
    text: str
    entry: str
    runtimes: Mapping[str, GLIBC]
    most: int | None
    zipped: int | None
    inside: bool
    answers_place: Callable[[str], object]
    listed: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "lambda",
            "lambda_function.py",
            _LAMBDA,
            "lambda_function.lambda_handler",
            {"3.11": (2, 26), "3.12": (2, 34), "3.13": (2, 34)},  # Amazon Linux 2, and 2023
            262_144_000,
            50 << 20,
            inside=True,
            answers_place=aws_batches.place_of,
        ),
        Kind(
            "function",
            "main.py",
            _FUNCTION,
            "http, or event",
            {"3.11": (2, 35), "3.12": (2, 35), "3.13": (2, 35)},  # Ubuntu 22.04
            None,
            None,
            inside=False,
            answers_place=cloud_function.topic_of,
            listed=("functions-framework>=3.10,<4",),
        ),
    )
}
