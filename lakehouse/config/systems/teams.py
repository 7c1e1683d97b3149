"""Microsoft Teams: its channels are told how runs ended."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakehouse.config.systems import Receiver


class TeamsReceiver(Receiver):
    """A channel in Microsoft Teams, by a workflow that posts what its webhook gets."""

    type: Literal["teams"] = Field(description="the system that is told")
