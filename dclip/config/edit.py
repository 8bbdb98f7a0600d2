"""The edit in words, and the mix of several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from dclip.config.options import check_given, check_positive
from dclip.errors import choose, counted, need

FOUND = ("auto", "quantile", "clip")  # regions that are found in each picture
REGIONS = (*FOUND, "truth", "none")


# how edit.degree=auto measures: on so many validation images, at these degrees
CALIBRATION_IMAGES = 8
PRIOR_IMAGES = 16  # of edit.region_prior and edit.region_tint
PALETTE_IMAGES = 32  # of edit.region_palette, whatever else is set
REFINING_STEPS = 8  # of edit.region_refine
STRIP_IMAGES = 6  # of the strip of degrees
MOST_PIXELS = 64  # of edit.region_feather and edit.region_follow
CALIBRATION_DEGREES = (0.0, 0.5, 1.0, 1.5, 2.0)

REGION_SETTINGS = (
    "region",
    "region_low",
    "region_high",
    "region_feather",
    "region_follow",
    "region_gain",
    "region_colors",
    "region_palette",
    "region_tint",
    "region_refine",
    "region_prior",
    "region_share",
)


def adapters_of(value: Any) -> list[str]:
    """``edit.adapter`` as a list: none, one, or several edits. DclipError for what names no edit."""
    names = value if isinstance(value, list) else [] if value is None else [value]
    need(
        value != [],
        "edit.adapter=[] names no edit; give a run's folder (outputs/latest after a run), or several",
    )
    need(
        all(isinstance(name, str) and name.strip() for name in names),
        f"edit.adapter={value} must be an edit's file, its run's folder or its name, or a list of these",
    )
    return names


def _check_type(where: str, key: str, value: object) -> None:
    """A region's setting must be of the kind that the same setting of ``Edit`` is."""
    if key == "region":
        need(value is None or isinstance(value, str), f"{where} has {value}, which is no region")
        return
    whole = isinstance(getattr(Edit, key), int)
    kinds = (int,) if whole else (int, float)
    need(
        isinstance(value, kinds) and not isinstance(value, bool),
        f"{where}.{key}={value} is no {'whole ' if whole else ''}number",
    )


def _is_degree(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 3


@dataclass
class Edit:
    """The edit in words. Written in ``conf/edit/NAME.yaml``; any text may be given as ``edit.source= edit.target=``."""

    name: str = ""
    source: str = MISSING
    target: str = MISSING
    examples: str | None = None  # images of the target, in place of texts: an image or a folder
    source_examples: str | None = None  # images to compare them with; null: the training images
    adapter: Any = None  # an edit that was fine-tuned before (its file, its run's folder, its name), or a list of several

    # what must stay, in words, where loss.keep is above 0; null: what the domain says
    keep: list[str] | None = None
    # what the target competes with, in words, where loss.contrast is above 0; null: the domain's
    # texts that name another value of the same attribute, or edit.source where it knows none
    against: list[str] | None = None
    # where the edit may act: auto, quantile, clip, truth (ToonFaces), none, or a picture whose
    # white parts may change; null: as the edit was learned with, else none
    region: str | None = None
    region_low: float = 0.3  # of the largest change: parts of the region that touch its core
    region_high: float = 0.5  # its core
    region_feather: float = 1.0  # pixels by which its border is softened
    region_follow: int = (
        0  # pixels over which a change follows the picture's colours; 0: it does not
    )
    region_gain: float = 1.0  # of the change within the region, or of the matte
    # for new colours: how surely a pixel must have a colour of the core to belong to the region,
    # touching it or not; the change is then a function of the colour, and its edge needs no
    # region_feather. 0: colours do not decide
    region_colors: float = 0.0
    # for shapes in a colour that the picture has, such as beards: they are laid over it with a matte,
    # whose values below region_low are 0; region_high, region_prior and the colours above do not
    # matter then. Colours so near (images are in [-1, 1]) count as one. 0: as they are drawn
    region_palette: float = 0.0
    # for a colour that a word stands for, whatever was there before: how far a region's mean colour
    # goes to the one that the edit usually draws; 0: each picture by itself, 1: all alike
    region_tint: float = 0.0
    # t to which the edited region is noised, to be denoised by the original network; 0: it is not.
    # For what that network knows (smiles), not for new colours
    region_refine: int = 0
    # how much of what CLIP sees of the edit must be left in the region that clip finds
    region_share: float = 0.9
    # how much where the edit usually acts decides, beside each picture's own change: 0 not at all,
    # 1 alone. With region=clip, 1: nothing is left below region_low of the most usual place, all
    # above region_high. For pictures that are aligned, such as faces
    region_prior: float = 0.0
    # of several edits that are mixed: one region for each, in their order, such as [auto,none] or
    # [{region: auto, region_low: 0.2}, auto]; null: each as it was learned with
    regions: Any = None

    # what gamma = 1 stands for, as a degree of what was learned: a number; auto: measured on
    # validation images after learning; null: 1 while learning, else as the edit's file says
    degree: Any = None

    @property
    def adapters(self) -> list[str]:
        """The edits to apply."""
        return adapters_of(self.adapter)

    @property
    def whole(self) -> float:
        """The gamma at which every edit is whole: two edits, each at half weight, are at 2."""
        return float(max(1, len(self.adapters)))

    @property
    def each(self) -> list[Edit]:
        """The settings of every edit's own region; empty where all have one region."""
        if self.regions is None:
            return []
        chosen = []
        for place, own in enumerate(self.regions):
            settings = dict(own) if isinstance(own, dict) else {"region": own}
            unknown = [key for key in settings if key not in REGION_SETTINGS]
            need(
                not unknown,
                f"edit.regions[{place}] has {', '.join(map(str, unknown))}; "
                f"choose {', '.join(REGION_SETTINGS)}",
            )
            for key, value in settings.items():
                _check_type(f"edit.regions[{place}]", key, value)
            chosen.append(replace(self, regions=None, **settings))
        return chosen

    @property
    def confined(self) -> bool:
        """Whether the edit acts in a region only."""
        return self.region not in (None, "none")

    @property
    def region_by_change(self) -> bool:
        """Whether how much each pixel changes decides the region."""
        return self.region in ("auto", "quantile")

    @property
    def needs_usual(self) -> bool:
        """Whether it matters where the edit usually acts, or in what colours."""
        if self.region == "clip":
            return self.region_prior > 0
        asked = max(self.region_prior, self.region_tint, self.region_palette)
        return self.region_by_change and asked > 0

    @property
    def usual_images(self) -> int:
        """How many images say what the edit usually does, at most."""
        return PALETTE_IMAGES if self.region_palette > 0 else PRIOR_IMAGES

    @property
    def asks_clip(self) -> bool:
        """Whether CLIP says where an edit acts."""
        return any(own.region == "clip" for own in [self, *self.each])

    def __post_init__(self) -> None:
        adapters_of(self.adapter)
        check_given("edit", examples=self.examples, source_examples=self.source_examples)
        for key in ("examples", "source_examples"):
            path = getattr(self, key)
            need(
                path is None or Path(path).exists(),
                f"edit.{key}={path} does not exist; give an image or a folder of images",
            )
        self._check_region()
        self._check_regions()
        need(
            self.degree in (None, "auto") or _is_degree(self.degree),
            f"edit.degree={self.degree} is neither auto nor a number above 0, at most 3",
        )
        need(
            self.source_examples is None or self.examples is not None,
            "edit.source_examples needs edit.examples: images of what the sources should become",
        )
        self._check_texts()

    def _check_texts(self) -> None:
        for key, example in (("source", "person"), ("target", "'person with red hair'")):
            text = getattr(self, key)
            need(
                bool(text.strip()),
                f"edit.{key} is empty; give a text such as edit.{key}={example}, or choose edit=NAME",
            )
            need(
                text not in ("True", "False") and not text.replace(".", "").isdigit(),
                f"edit.{key}={text} is not a text; YAML read it as a number or a yes/no, so put it in quotes",
            )
        need(
            self.source.strip().lower() != self.target.strip().lower(),
            f"edit.source and edit.target are the same text ({self.source!r}); nothing would change",
        )
        need(
            self.target not in (self.keep or ()),
            f"edit.keep holds edit.target ({self.target!r}), which cannot stay and change; "
            "leave it out of edit.keep",
        )
        need(
            all(text.strip() for text in self.keep or ()),
            "edit.keep has an empty text; give a text such as edit.keep='[smiling person]'",
        )
        need(
            self.against is None or bool(self.against),
            "edit.against is empty, and a target that competes with nothing is always certain; "
            "give a text, or leave it out",
        )
        for text in self.against or ():
            need(
                bool(text.strip()),
                "edit.against has an empty text; give a text such as edit.against='[sad face]'",
            )
        need(
            self.target.strip().lower()
            not in [text.strip().lower() for text in self.against or ()],
            f"edit.against holds edit.target ({self.target!r}), which cannot compete with itself; "
            "leave it out of edit.against",
        )

    def _check_regions(self) -> None:
        need(
            self.regions is None or isinstance(self.regions, list),
            f"edit.regions={self.regions} must be a list with a region for each edit, "
            "such as [auto,none]",
        )
        count = len(self.adapters)
        need(
            self.regions is None or count == len(self.regions),
            f"edit.regions has {counted(len(self.regions or ()), 'region')} for {counted(count, 'edit')}; "
            "give one an edit, in their order",
        )
        for own in self.each:
            need(
                own.region in (None, "none", *FOUND),
                f"edit.regions has {own.region}; of several edits each has {', '.join(FOUND)} or none, "
                "and all of them may share edit.region=truth or FILE",
            )

    def _check_region(self) -> None:
        region, low, high = self.region, self.region_low, self.region_high
        need(
            region is None or region in REGIONS or Path(region).expanduser().is_file(),
            f"edit.region={region} is no picture{choose(str(region), REGIONS)}, or a picture whose "
            "white parts may change",
        )
        need(
            0 <= low <= high <= 1,
            f"edit.region_low={low} and edit.region_high={high} must be in this order between 0 "
            "and 1, where 1 is the largest change of an image",
        )
        for key in ("region_feather", "region_follow"):
            pixels = getattr(self, key)
            need(
                0 <= pixels <= MOST_PIXELS,
                f"edit.{key}={pixels} must be 0 (off) to {MOST_PIXELS} pixels",
            )
        check_positive("edit", region_gain=self.region_gain)
        need(
            0 <= self.region_colors < 1,
            f"edit.region_colors={self.region_colors} is a probability; choose 0 (colours do not "
            "decide) to below 1, such as 0.8",
        )
        need(
            0 <= self.region_palette <= 2,
            f"edit.region_palette={self.region_palette} is a distance of colours in [-1, 1]; choose "
            "0 (colours stay as they are drawn) to 2, such as 0.1",
        )
        need(
            0 <= self.region_tint <= 1,
            f"edit.region_tint={self.region_tint} is a share; choose 0 (each picture by itself) to 1 "
            "(the colour that the edit usually draws)",
        )
        need(
            0 <= self.region_refine < 1000,
            f"edit.region_refine={self.region_refine} is no timestep; choose 0 to 999, such as 200",
        )
        need(
            0 <= self.region_prior <= 1,
            f"edit.region_prior={self.region_prior} is a share; choose 0 (each picture by itself) "
            "to 1 (all alike)",
        )
        need(
            0 < self.region_share <= 1,
            f"edit.region_share={self.region_share} is a share; choose above 0 to 1 (all of it)",
        )


@dataclass
class Mix:
    """Several edits at once, or one after the other.

    At once, eps is the weighted sum of theirs (DiffusionCLIP, Eq. 16), or one network has the sum of
    their changes.

    Weights sum to one at every t, so two edits at half weight each make half of each change; ``gamma=2`` makes both whole.
    """

    weights: Any = None  # [0.5, 0.5], {300: [1, 0], 0: [0.3, 0.7]}, linear, cosine (dclip/edits/weights.py); null: equal
    soup: bool = False  # merge the edits' weights into one network, at the cost of one
    in_turn: bool = False  # one edit after the other, each on the pictures that the last one made

    def __post_init__(self) -> None:
        need(
            not (self.soup and self.in_turn),
            "mix.soup=true makes one network of the edits, which cannot act one after the other; "
            "choose mix.soup or mix.in_turn",
        )
