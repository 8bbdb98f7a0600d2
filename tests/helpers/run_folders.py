"""Folders of runs as their pages read them: files only."""

from omegaconf import OmegaConf
from PIL import Image

from dclip.data.images import save_pngs
from dclip.files import write_json, write_rows
from helpers.images import images16


def write_run(folder, ids, truth=True, **status):
    """A run's folder, as far as its page needs it."""
    images = images16(len(ids))
    after, true = images16(len(ids), seed=1).pixels, images16(len(ids), seed=2).pixels
    save_pngs(after, ids, folder / "samples")
    save_pngs(images.pixels, ids, folder / "sources")
    if truth:
        save_pngs(true, ids, folder / "truth")
    distance = [0.5 + k for k in range(len(ids))]
    rows = {"image": ids, "mae": distance[::-1], "closer": [1.0] * len(ids)}
    if truth:
        rows |= {"truth_distance": distance, "truth_distance_untouched": [2.0] * len(ids)}
    write_rows(folder / "rows.csv", rows)
    write_json(folder / "metrics.json", {"mae": 0.5, "images": len(ids)})
    write_json(folder / "status.json", {"status": "finished", **status})
    return folder


def write_strip(folder, gammas, rows=None):
    """A strip of degrees, with its settings: a row of 10 pixels for the sources and each degree."""
    height = 10 * ((len(gammas) if rows is None else rows) + 1)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (600, height), "blue").save(folder / "samples" / "degree_of_change.png")
    OmegaConf.save({"degrees": gammas}, folder / "config.yaml")
