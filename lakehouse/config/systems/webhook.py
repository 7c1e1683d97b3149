"""Any web service that wants to be told how runs ended."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lakehouse.config.systems import Receiver


class WebhookReceiver(Receiver):
    """Any service that takes JSON by POST; lakehouse/observe/README.md says what it gets."""

    type: Literal["webhook"] = Field(description="the system that is told")
