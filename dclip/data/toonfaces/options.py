"""``dataset=toonfaces`` and its settings. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dclip.config import Dataset, Net, PretrainTask, Size, option
from dclip.data.toonfaces.faces import SIZE, Drawing
from dclip.data.toonfaces.truths import Truth, truth_named
from dclip.errors import DclipError, need

if TYPE_CHECKING:
    from dclip.types import Images


@option("dataset", "toonfaces")
@dataclass
class ToonFaces(Dataset):
    """Cartoon faces drawn on the spot.

    With ``only_applicable``, those for which the edit means something.
    """

    shows = "toonfaces"
    drawn = True
    trains = True

    only_applicable: bool = True
    domain: Drawing = Drawing.toon

    @property
    def unseen(self) -> str:
        """Whatever is not drawn as a cartoon."""
        if self.domain is Drawing.toon:
            return ""
        return f"dataset.domain={self.domain.value}"

    def for_edit(self, edit: str) -> ToonFaces:
        """With ``only_applicable``, the faces for which the edit of this name means something."""
        if not self.only_applicable:
            return self
        return _FacesOfEdit(**vars(self), truth=truth_named(edit))

    def everything(self) -> ToonFaces:
        """All faces, whatever the edit."""
        return replace(self, only_applicable=False)

    def check_training(self, task: PretrainTask) -> None:
        """Its networks have one size, and their captions colours of their own."""
        need(
            task.size is Size.small and not task.colors,
            "task.size and task.colors are for dataset=cifar10; leave them out",
        )
        clips = (Net.clip, Net.heldout)
        judged = (*clips, Net.judge)
        task.check_used(
            low=(Net.ddpm,),
            min_snr=(Net.ddpm,),
            compile=(Net.ddpm,),
            robust=clips,
            paint=judged,
            partial=judged,
        )
        need(
            task.net is not Net.judge or task.batch >= 3,
            f"task.batch={task.batch} is too small for task.net=judge; choose 3 or more",
        )
        need(
            task.net is not Net.judge or task.pool >= 6,
            f"task.pool={task.pool} is too small for task.net=judge; choose 6 or more",
        )

    def load(self, split: str, size: int) -> Images:
        """The first faces of a split."""
        return self._draw(split, size, None)

    def _draw(self, split: str, size: int, truth: Truth | None) -> Images:
        from dclip.data.toonfaces.images import toonfaces

        if size != SIZE:
            raise DclipError(
                f"dataset=toonfaces draws {SIZE}x{SIZE} pictures, "
                f"but the checkpoint takes {size}x{size}; choose dataset=folder"
            )
        return toonfaces(split, self.count(split), truth, self.domain)


@dataclass
class _FacesOfEdit(ToonFaces):
    """The faces for which one edit means something."""

    truth: Truth | None = None

    def load(self, split: str, size: int) -> Images:
        """The first such faces of a split."""
        return self._draw(split, size, self.truth)
