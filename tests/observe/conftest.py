"""What a test leaves behind of receivers that did not answer is none of the next one's business."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lakehouse.observe import watching


@pytest.fixture(autouse=True)
def nobody_rests() -> Iterator[None]:
    yield
    watching._resting.clear()
