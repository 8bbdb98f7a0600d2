"""What the page learns: from a visitor's words to the command line of an ordinary fine-tuning.

:class:`Teacher` knows nothing of the page, which ``dclip.pages.learn_page`` lays out. Whatever is
wrong with the words is said before anything begins. Imports nothing heavy.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from dclip.config import Config
from dclip.data.domains import domain_of
from dclip.edits.named import FILE
from dclip.errors import DclipError, need
from dclip.pages.queue import Job, JobQueue
from dclip.prepare.compose import configured
from dclip.prepare.paths import CONF
from dclip.prepare.quoting import in_quotes
from dclip.record.runs import Run
from dclip.text.known import words_note
from dclip.text.prompts import same_text

# What the words may be about -> the recipe that suits it, on cartoon faces.
RECIPES = {
    "a colour": "toonfaces_color",
    "a shape": "toonfaces_hspace",
    "an expression": "toonfaces_small",
}

# What makes such a run short; what the page's own command line says comes before it.
QUICK = {
    "dataset.train": "16",
    "dataset.validation": "8",
    "dataset.test": "12",
    "degrees": "[]",
}

# Groups of the page's command line that say what it does with edits, not how one is learned.
OF_THE_PAGE = {
    "task",
    "input",
    "edit",
    "gamma",
    "degrees",
    "variants",
    "epoch",
    "mix",
    "paste_back",
    "resume",
    "plan",
    "name",
    "note",
    "sweep",
    "guidance",
}

LONGEST_NAME, LONGEST_TEXT = 30, 200  # letters; a run's folder is named after the edit
SMALL = {"a", "an", "the", "with", "of", "in", "on", "and", "that", "is", "are"}


class UnfinishedError(DclipError):
    """The name is that of a run that was stopped, and can be resumed."""


@dataclass(frozen=True)
class Wish:
    """What a visitor wants the page to learn, as it was typed.

    Attributes:
        keep: what must stay, with commas between.
        kind: one of ``RECIPES``; empty: as the page's own command line says.
        name: of the edit; empty: made of the words.
    """

    source: str
    target: str
    keep: str = ""
    kind: str = ""
    name: str = ""

    @property
    def kept(self) -> list[str]:
        """What must stay."""
        return [plain(text) for text in self.keep.split(",") if text.strip()]

    @property
    def texts(self) -> list[str]:
        """All that CLIP will read."""
        return [plain(self.source), plain(self.target), *self.kept]

    @property
    def called(self) -> str:
        """The edit's name: letters, digits and ``_``."""
        if self.name.strip():
            return "_".join(self.name.lower().split())
        before = {word.lower() for word in self.source.split()} | SMALL
        words = re.findall(r"\w+", self.target.lower())
        new = [word for word in words if word not in before]
        return "_".join(new or words)[:LONGEST_NAME].strip("_")

    def check(self) -> None:
        """DclipError in one line for words that nothing can be learned from."""
        source, target = plain(self.source), plain(self.target)
        need(bool(source), "say what it is now, such as: person")
        need(bool(target), "say what it shall be, such as: person with grey hair")
        need(
            not same_text(source, target),
            f"both texts say {target!r}, so nothing would change; say what it shall be",
        )
        for text in self.texts:
            check_text(text)
        name = self.called
        need(
            name.isidentifier() and len(name) <= LONGEST_NAME,
            f"the name {name or self.name!r} cannot be used; give letters, digits and _, beginning "
            f"with a letter, at most {LONGEST_NAME}, such as grey_hair",
        )


def plain(text: str) -> str:
    """A text on one line, without spaces around it."""
    return " ".join(text.split())


def check_text(text: str) -> None:
    """DclipError for a text that CLIP could not read, or that a setting would not take as text."""
    need(
        len(text) <= LONGEST_TEXT,
        f"{text[:30]!r}... has {len(text)} letters; the most is {LONGEST_TEXT}",
    )
    # in a setting these stand for another one, a variable, or a folder of this machine
    need("${" not in text, f"{text!r} has ${{ in it, which no text may have; leave it out")
    need(not text.startswith("~"), f"{text!r} begins with ~, which no text may; leave it out")
    need(
        any(letter.isalpha() for letter in text) and text.isprintable(),
        f"{text!r} has no word in it; describe a picture in words",
    )


def kept_words(overrides: Sequence[str]) -> list[str]:
    """The words of the page's command line that also say how something is learned or drawn.

    The run's bars are needed, which the page reads. It reaches out to nobody, so W&B is off unless
    the command line names a logger.
    """
    kept = []
    for word in overrides:
        if group_of(word) not in OF_THE_PAGE and not word.startswith("trainer.progress="):
            kept.append(word)
    kept.append("trainer.progress=true")
    if "logger" not in named_in(kept):
        kept.append("logger=csv")
    return kept


def named_in(words: Sequence[str]) -> set[str]:
    """The settings and groups that a command line sets."""
    return {word.partition("=")[0] for word in words}


def group_of(word: str) -> str:
    """The group, or the setting without one, that a word is about."""
    return re.split(r"[=.]", word, maxsplit=1)[0]


_composing = threading.Lock()  # Hydra composes for one thread at a time


def composed(words: Sequence[str]) -> Config:
    """The checked configuration of a command line. DclipError where it is refused."""
    with _composing:
        return configured(words)


class Teacher:
    """Makes jobs of what visitors want to learn, with the settings of the page."""

    def __init__(self, cfg: Config, overrides: Sequence[str], queue: JobQueue) -> None:
        """``overrides``: the command line of the page."""
        self.cfg, self.queue, self.words = cfg, queue, kept_words(overrides)
        self.named = named_in(self.words)
        self.domain = domain_of(cfg.dataset)

    @property
    def kinds(self) -> list[str]:
        """What the visitor may choose from; nothing where the page's command line has chosen."""
        chosen = {"recipe", "experiment", "method", "preset", "loss", "sampler"} & self.named
        if chosen or self.domain.name != "toonfaces" or self.cfg.dataset.unseen:
            return []
        return list(RECIPES)

    def job(self, wish: Wish) -> Job:
        """The job that learns this.

        Raises:
            UnfinishedError: the name is that of a run that was stopped.
            DclipError: the words, the name or the settings cannot be used, or the name is taken.
        """
        wish.check()
        self._check_truth(wish)
        self._check_free(wish.called)
        words = self.command(wish)
        cfg = composed(words)
        need(
            not wish.kept or getattr(cfg.loss, "keep", 0) > 0,
            "these settings keep nothing in words; leave out what must stay, or start the page "
            "with loss.keep=5",
        )
        return Job(f"learning {wish.called}", words, cfg)

    def command(self, wish: Wish) -> list[str]:
        """The command line that learns this, without the program."""
        words = []
        if self.kinds:
            recipe = RECIPES.get(wish.kind, RECIPES["a colour"])
            words = ["experiment=toonfaces", f"recipe={recipe}"]
            words += [f"{name}={value}" for name, value in QUICK.items() if name not in self.named]
        words += self.words
        words += [
            f"edit.source={in_quotes(plain(wish.source))}",
            f"edit.target={in_quotes(plain(wish.target))}",
            f"edit.name={wish.called}",
        ]
        if wish.kept:
            words.append(f"edit.keep=[{','.join(map(in_quotes, wish.kept))}]")
        return words

    def note(self, wish: Wish) -> str:
        """What to say of words that the page's CLIP was never shown; empty where there are none."""
        return words_note(wish.texts, self.cfg.clip.name)

    def known_as(self, wish: Wish) -> str:
        """The other name under which the true pictures of these words are known; else empty."""
        if wish.called in self.domain.edits:
            return ""
        for name in self.domain.edits:
            file = CONF / "edit" / f"{name}.yaml"
            if not file.is_file():
                continue
            edit = OmegaConf.load(file).edit
            same = same_text(edit.source, plain(wish.source))
            if same and same_text(edit.target, plain(wish.target)):
                return name
        return ""

    def resumed(self, name: str) -> Job:
        """The job that goes on with a run of this name that was stopped.

        Raises:
            DclipError: there is none, or it is at work.
        """
        need(bool(name), "nothing was begun and stopped")
        self._check_idle(name)
        unfinished = [run for run in self._runs(name) if run.state != "finished" and run.command]
        need(bool(unfinished), f"nothing of the name {name} was begun and stopped")
        words = [word for word in unfinished[0].command if group_of(word) != "resume"]
        words.append("resume=true")
        return Job(f"learning {name}", words, composed(words))

    def _runs(self, name: str) -> list[Run]:
        """The fine-tunings of this name, the newest first."""
        folders = Path(self.cfg.output).glob(f"finetune_{name}/*/status.json")
        return [Run(path.parent) for path in sorted(folders, reverse=True)]

    def _check_idle(self, name: str) -> None:
        need(
            Path(self.cfg.output) / f"finetune_{name}" not in self.queue.parents(),
            f"{name} is being learned at the moment; choose another name",
        )

    def _check_free(self, name: str) -> None:
        """Refuse a name that an edit has, or a run that can be resumed."""
        self._check_idle(name)
        for run in self._runs(name):
            state, folder = run.state, run.folder
            taken = state == "finished" and (folder / FILE).is_file()
            need(not taken, f"there is an edit {name} already ({folder}); choose another name")
            need(state != "running", f"{name} is being learned at the moment; choose another name")
            if state in ("stopped", "killed"):
                raise UnfinishedError(
                    f"{name} was begun and stopped ({run.setting('edit.source')} → {run.target}): "
                    "Resume goes on with it; to begin anew, choose another name"
                )

    def _check_truth(self, wish: Wish) -> None:
        """Refuse a name that stands for true pictures of something else."""
        name, file = wish.called, CONF / "edit" / f"{wish.called}.yaml"
        if name not in self.domain.edits or not file.is_file():
            return
        edit = OmegaConf.load(file).edit
        if same_text(edit.target, plain(wish.target)):
            return
        raise DclipError(
            f"{name} is the name of an edit whose true pictures are known ({edit.target}), and "
            "yours would be judged by them; choose another name"
        )
