"""What the page draws from words: guided sampling, as an ordinary run. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from dclip.config import Config
from dclip.data.domains import domain_of
from dclip.errors import need
from dclip.pages.learn import check_text, composed, kept_words, named_in, plain
from dclip.pages.queue import Job
from dclip.prepare.quoting import in_quotes
from dclip.text.known import words_note

MOST = 16  # samples at once
NAME = "drawn"  # of the runs' folder


class Drawer:
    """Makes jobs of what visitors want to see, with the settings of the page."""

    def __init__(self, cfg: Config, overrides: Sequence[str]) -> None:
        """``overrides``: the command line of the page."""
        self.cfg, self.words = cfg, kept_words(overrides)
        self.named = named_in(self.words)
        self.domain = domain_of(cfg.dataset)

    def job(self, text: str, count: int) -> Job:
        """The job that draws this. DclipError for words that nothing can be drawn from."""
        words = self.command(plain(text), count)
        return Job(f"drawing {plain(text)}", words, composed(words))

    def command(self, text: str, count: int) -> list[str]:
        """The command line that draws this, without the program."""
        need(bool(text), "say what to draw, such as: a person with a beard")
        check_text(text)
        need(1 <= count <= MOST, f"{count} pictures cannot be drawn; choose 1 to {MOST}")
        words = list(self.words)
        if self.domain.drawn and "experiment" not in self.named:
            words.insert(0, "experiment=toonfaces_contrastive")
        else:
            words += ["task=sample", "guidance=contrastive"]
        words += [f"guidance.targets=[{in_quotes(text)}]", f"task.count={count}", f"name={NAME}"]
        if not self.domain.grammar.siblings(text):
            words.append("guidance.distractors=source")
        return words

    def note(self, text: str) -> str:
        """What to say of words that the page's CLIP was never shown; empty where there are none."""
        return words_note([text], self.cfg.clip.name)
