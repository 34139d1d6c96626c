"""What the demo prints: chapters, facts and checks, for people or (as JSON lines) for programs."""

from __future__ import annotations

import json

from rich.console import Console
from rich.text import Text


class Narrator:
    """Tells the story, and remembers what was claimed and did not hold."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)
        self._chapter = 0
        self.failed: list[str] = []
        self.checks = 0

    def chapter(self, title: str) -> None:
        """A new part of the conversation."""
        self._chapter += 1
        self._tell("chapter", Text(f"\n{self._chapter}. {title}", style="bold"), title)

    def fact(self, name: str, value: object) -> None:
        """Something that was found to be so."""
        self._tell("fact", Text(f"   {name:<16}", style="cyan").append(str(value), style="default"), value, name=name)

    def said(self, who: str, text: str) -> None:
        """A line of a dialogue, or a word from B."""
        self._tell("said", Text(f"   {who:<4}| ", style="dim").append(text, style="default"), text, who=who)

    def check(self, claim: str, holds: bool) -> None:
        """A claim, and whether it holds."""
        self.checks += 1
        if not holds:
            self.failed.append(claim)
        mark, style = ("✓", "green") if holds else ("✗", "bold red")
        self._tell("check", Text(f"   {mark} ", style=style).append(claim, style="default"), claim, holds=holds)

    def _tell(self, kind: str, text: Text, value: object, **fields: object) -> None:
        if self._as_json:
            print(json.dumps({kind: value, **fields}, default=str), flush=True)
        else:
            self._console.print(text)
