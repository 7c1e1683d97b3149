"""Slack: its channels are told how runs ended."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakehouse.config.systems import Receiver


class SlackReceiver(Receiver):
    """A channel in Slack, by an incoming webhook."""

    type: Literal["slack"] = Field(description="the system that is told")
