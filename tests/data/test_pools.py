"""Photographs on disk in every published layout, splits, id lists, CIFAR-10's fetching, and images drawn by the model."""

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from dclip.data import lmdbs
from dclip.data import pools as listing
from dclip.data.cifar10 import Cifar10
from dclip.data.imagenet import ImageNet, classes, wnid
from dclip.data.missing import missing
from dclip.data.photographs import Afhq, CelebaHq, Ffhq, Folder, Lsun
from dclip.data.pools import Order
from helpers import layouts
from helpers.datasets import COUNTS, load, lsun, names_of

# ------------------------------------------------------------------------------------------- every layout


def celeba_folders(root):
    layouts.files(root / "raw_images" / "train" / "images", 9)
    layouts.files(root / "raw_images" / "test" / "images", 5)
    return CelebaHq(root=str(root))


def afhq_mixed(root):
    for split, count in (("train", 9), ("test", 5)):
        for animal in ("dog", "wild"):
            layouts.files(root / "raw_images" / split, count, f"flickr_{animal}_{{:06d}}.jpg")
    return Afhq(root=str(root))


def stargan_celeba(root):
    for split, count in (("train", 9), ("val", 5)):
        layouts.files(root / split / "female", count, "{:06d}.jpg")
    return CelebaHq(root=str(root))


def cifar_folders(root):
    for split, count in (("train", 9), ("test", 5)):
        for name in ("cat", "ship"):
            layouts.files(root / split / name, count, "{:04d}.jpg", (32, 32))
    return Cifar10(root=str(root), category="ship")


LAYOUTS = {
    "folder": lambda root: Folder(
        root=str(layouts.files(layouts.files(root, 9), 5, "deep/{}.webp"))
    ),
    "ffhq": lambda root: Ffhq(root=str(layouts.files(root, 14, "0{0}/{0:05d}.png"))),
    "celeba_hq, any folder": lambda root: CelebaHq(root=str(layouts.files(root, 14, "{}.jpg"))),
    "celeba_hq, StyleMapGAN's folders": celeba_folders,
    "celeba_hq, StarGAN's folders": stargan_celeba,
    "celeba_hq, LMDB": lambda root: CelebaHq(root=str(layouts.celeba_lmdb(root))),
    "afhq": lambda root: Afhq(root=str(layouts.afhq(root))),
    "afhq v2": lambda root: Afhq(root=str(layouts.afhq(root, held="test")), category="cat"),
    "afhq, StyleMapGAN's folders": afhq_mixed,
    "afhq, LMDB": lambda root: Afhq(root=str(layouts.celeba_lmdb(root)), category=None),
    "lsun": lsun,
    "lsun, training images only": lambda root: Lsun(
        root=str(layouts.lsun(root, "bedroom", "train", 14))
    ),
    "imagenet, a class": lambda root: ImageNet(root=str(layouts.imagenet(root)), category="852"),
    "imagenet, all": lambda root: ImageNet(root=str(layouts.imagenet(root))),
    "imagenet, validation images only": lambda root: ImageNet(
        root=str(only_val(root)), category="tennis ball"
    ),
    "cifar10, folders": cifar_folders,
}


def only_val(root):
    layouts.files(root / "val" / layouts.WNIDS[1], 14, "ILSVRC2012_val_{:08d}.JPEG")
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_read_from_every_layout(layout, tmp_path):
    data = LAYOUTS[layout](tmp_path / "data")
    assert missing(data) == []
    images = {split: load(data, split) for split in COUNTS}
    assert {split: len(part) for split, part in images.items()} == COUNTS
    pixels = torch.cat([part.pixels for part in images.values()])
    assert pixels.shape == (11, 3, 16, 16)
    assert float(pixels.std()) > 0.2
    assert len({tuple(x.flatten().tolist()) for x in pixels}) == 11  # no picture is in two splits
    assert all("/" not in name for part in images.values() for name in part.ids)
    again = load(LAYOUTS[layout](tmp_path / "elsewhere"), "train")
    assert again.ids == images["train"].ids
    assert torch.equal(again.pixels, images["train"].pixels)


@pytest.mark.parametrize(
    "layout",
    ["celeba_hq, LMDB", "celeba_hq, StarGAN's folders", "afhq", "lsun", "imagenet, a class"],
)
def test_test_images_come_from_the_data_sets_own_test_images(layout, tmp_path):
    found = LAYOUTS[layout](tmp_path).pools()
    assert set(found) == {"train", "test"}
    chosen = LAYOUTS[layout](tmp_path / "more").chosen(COUNTS)
    held = {"celeba_hq, LMDB": "LMDB_test", "lsun": "bedroom_val_lmdb"}.get(layout, "val")
    assert {held in str(pool.place) for pool, _ in chosen["test"]} == {True}
    assert {
        held in str(pool.place) for split in ("train", "validation") for pool, _ in chosen[split]
    } == {False}


def test_only_the_animal_that_is_asked_for_is_read(tmp_path):
    for data in (afhq_mixed(tmp_path / "a"), Afhq(root=str(layouts.afhq(tmp_path / "b")))):
        assert all("dog" in name for part in names_of(data).values() for name in part)
        data.category = "wild"
        assert bool(data.pools()) == (tmp_path / "a" == Path(data.root))


def test_an_lmdb_gives_the_size_that_loses_least(tmp_path):
    layouts.celeba_lmdb(tmp_path)
    pool = CelebaHq(root=str(tmp_path)).pools()["test"]
    sizes = {size: Image.open(pool.open("00000", size)).size[0] for size in (16, 64, 65, 128, 500)}
    assert sizes == {16: 64, 64: 64, 65: 128, 128: 128, 500: 128}


def test_the_first_images_can_be_asked_for_by_name(tmp_path):
    layouts.celeba_lmdb(tmp_path / "a")
    data = CelebaHq(root=str(tmp_path / "a"), order=Order.name)
    assert names_of(data)["test"] == ["00000", "00001", "00002", "00003"]
    data.order = Order.hash
    assert names_of(data)["test"] != ["00000", "00001", "00002", "00003"]


def test_all_of_imagenet_is_used_class_by_class_and_listed_only_as_far_as_needed(
    tmp_path, monkeypatch
):
    layouts.imagenet(tmp_path)
    names = names_of(ImageNet(root=str(tmp_path)), test=4)["test"]
    assert sorted(name.split("/")[0] for name in names) == sorted(2 * layouts.WNIDS)
    looked = []
    monkeypatch.setattr(
        listing,
        "find_images",
        lambda root, seen=listing.find_images: looked.append(root.name) or seen(root),
    )
    assert len(listing.class_folders(tmp_path / "train", Order.hash).first(1)) == 1
    assert len(looked) == 1
    assert len(listing.class_folders(tmp_path / "train", Order.hash).first(100)) == 18


@pytest.mark.parametrize("category", ["852", "n04409515", "tennis ball", "Tennis_Ball"])
def test_an_imagenet_class_has_a_number_a_wnid_and_a_name(category):
    assert wnid(category) == "n04409515"
    assert len(classes()) == 1000


def test_a_broken_picture_in_an_lmdb_is_skipped_with_its_key(tmp_path, caplog, monkeypatch):
    import lmdb

    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    layouts.numbered_lmdb(tmp_path / "LMDB_test", 4, (64,))
    with (
        lmdb.open(str(tmp_path / "LMDB_test"), map_size=2**24) as env,
        env.begin(write=True) as out,
    ):
        out.put(b"64-00002", b"no picture")
    with caplog.at_level("WARNING", "dclip"):
        images = load(CelebaHq(root=str(tmp_path)))
    assert len(images) == 3
    assert "skipped 1 of 4 files" in caplog.text
    assert "00002 cannot be read" in caplog.text


def test_without_the_lmdb_package_an_lmdb_is_refused_in_one_line(tmp_path, monkeypatch):
    data = lsun(tmp_path)
    monkeypatch.setattr(lmdbs, "find_spec", lambda name: None)
    assert "pip install 'dclip[lmdb]'" in missing(data)[0]
    monkeypatch.undo()
    assert missing(data) == []


def test_something_else_that_is_called_an_lmdb_is_refused(tmp_path):
    (tmp_path / "bedroom_val_lmdb").mkdir()
    (tmp_path / "bedroom_val_lmdb" / "data.mdb").write_bytes(b"this is not a database" * 500)
    assert "is not a readable LMDB" in missing(Lsun(root=str(tmp_path)))[0]
    layouts.lsun(tmp_path, "x", "y", 2)
    (tmp_path / "x_y_lmdb").rename(tmp_path / "LMDB_test")
    assert "no keys length" in missing(CelebaHq(root=str(tmp_path)))[0]
