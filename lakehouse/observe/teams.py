"""What a workflow of Microsoft Teams gets that posts to a channel when a webhook request comes: an adaptive card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lakehouse.observe.notify import Message

_COLORS = {"published": "Good", "held": "Accent", "drifted": "Warning", "rolled_back": "Warning", "discarded": "Accent"}


def payload(message: Message) -> Mapping[str, Any]:
    """The message as a card."""
    title = {
        "type": "TextBlock",
        "text": message.title,
        "weight": "Bolder",
        "color": _COLORS.get(message.outcome, "Attention"),
        "wrap": True,
    }
    text = [{"type": "TextBlock", "text": message.message, "wrap": True}] if message.message else []
    facts = {"type": "FactSet", "facts": [{"title": n, "value": text} for n, text in message.facts.items()]}
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [title, *text, facts],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}
