"""What an incoming webhook of Slack gets: a line for notifications, and a message in blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lakehouse.observe.notify import Message

_LONGEST = 2900
"""Characters of a block's text; Slack takes 3,000."""


def payload(message: Message) -> Mapping[str, Any]:
    """The message in Slack's Block Kit."""
    lines = [f"*{_plain(message.title)}*", *filter(None, [_plain(message.message)])]
    fields = [f"*{name}*\n{_plain(text)}" for name, text in message.facts.items()]
    blocks: list[dict[str, Any]] = [{"type": "section", "text": _text("\n".join(lines))}]
    if fields:
        blocks.append({"type": "section", "fields": [_text(field) for field in fields]})
    return {"text": _plain(message.title), "blocks": blocks}


def _text(text: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text[:_LONGEST]}


def _plain(text: str) -> str:
    """Text in which Slack sees no link, mention or markup of its own."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
