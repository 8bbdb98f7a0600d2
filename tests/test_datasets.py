"""Photographs on disk in every published layout, splits, id lists, CIFAR-10's fetching, and images drawn by the model."""

import logging
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import layouts
import numpy as np
import pytest
import torch
from conftest import ROOT, configure, words
from PIL import Image

from dclip.config import Afhq, CelebaHq, Cifar10, Ffhq, Folder, ImageNet, Lsun, Order
from dclip.data import cifar10
from dclip.data import pools as listing
from dclip.data.imagenet import classes, wnid
from dclip.data.load import photographs as read
from dclip.data.missing import missing, missing_data
from dclip.data.pools import pools
from dclip.data.splits import deal
from dclip.errors import DclipError

COUNTS = {"test": 4, "train": 5, "validation": 2}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks: more threads only cost."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(data, split="test", size=16):
    """Images of a data set object whose counts are ``COUNTS``."""
    for name, count in COUNTS.items():
        setattr(data, name, count)
    return read(data, split, size)


def names_of(data, **counts):
    return {
        split: [name for _, name in part] for split, part in deal(data, counts or COUNTS).items()
    }


def refusal(function, *args):
    with pytest.raises(DclipError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def lsun(root):
    for split, count in (("train", 9), ("val", 5)):
        layouts.lsun(root, "bedroom", split, count)
    return Lsun(root=str(root))


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
    "afhq, LMDB": lambda root: Afhq(root=str(layouts.celeba_lmdb(root))),
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
    found = pools(LAYOUTS[layout](tmp_path))
    assert set(found) == {"train", "test"}
    dealt = deal(LAYOUTS[layout](tmp_path / "more"), COUNTS)
    held = {"celeba_hq, LMDB": "LMDB_test", "lsun": "bedroom_val_lmdb"}.get(layout, "val")
    assert {held in str(pool.place) for pool, _ in dealt["test"]} == {True}
    assert {
        held in str(pool.place) for split in ("train", "validation") for pool, _ in dealt[split]
    } == {False}


def test_only_the_animal_that_is_asked_for_is_read(tmp_path):
    for data in (afhq_mixed(tmp_path / "a"), Afhq(root=str(layouts.afhq(tmp_path / "b")))):
        assert all("dog" in name for part in names_of(data).values() for name in part)
        data.category = "wild"
        assert bool(pools(data)) == (tmp_path / "a" == listing.Path(data.root))


def test_an_lmdb_gives_the_size_that_loses_least(tmp_path):
    layouts.celeba_lmdb(tmp_path)
    pool = pools(CelebaHq(root=str(tmp_path)))["test"]
    sizes = {size: Image.open(pool.open("00000", size)).size[0] for size in (16, 64, 65, 128, 500)}
    assert sizes == {16: 64, 64: 64, 65: 128, 128: 128, 500: 128}


def test_the_first_images_can_be_asked_for_by_name(tmp_path):
    layouts.celeba_lmdb(tmp_path / "a")
    data = CelebaHq(root=str(tmp_path / "a"), order=Order.name)
    assert names_of(data)["test"] == ["00000", "00001", "00002", "00003"]
    data.order = Order.hash
    assert names_of(data)["test"] != ["00000", "00001", "00002", "00003"]


def test_all_of_imagenet_is_dealt_class_by_class_and_listed_only_as_far_as_needed(
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
    assert len(listing._classes(tmp_path / "train", Order.hash).first(1)) == 1
    assert len(looked) == 1
    assert len(listing._classes(tmp_path / "train", Order.hash).first(100)) == 18


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


# ------------------------------------------------------------------------------------------- what is missing


def test_missing_images_are_said_with_folder_layout_and_source(tmp_path):
    for data in (
        CelebaHq(root=str(tmp_path / "no")),
        Afhq(),
        Lsun(category="church_outdoor"),
        ImageNet(),
        Cifar10(),
        Ffhq(),
    ):
        (line,) = missing(data)
        for part in (data.root, data.LAYOUT, data.SOURCE, "dataset=sampled"):
            assert part in line
    (tmp_path / "empty").mkdir()
    assert "holds no such images" in missing(CelebaHq(root=str(tmp_path / "empty")))[0]
    assert len(missing(Folder(root=str(tmp_path / "no"), ids="nowhere.txt"))) == 2


def test_without_the_lmdb_package_an_lmdb_is_refused_in_one_line(tmp_path, monkeypatch):
    data = lsun(tmp_path)
    monkeypatch.setattr(listing, "find_spec", lambda name: None)
    listing._environment.cache_clear()
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


def test_missing_images_are_refused_before_torch_is_loaded(tmp_path):
    program = (
        "import sys; sys.argv = ['run.py', 'experiment=celeba_tanned', 'dataset.root=nothing']; from dclip.cli import main\n"
        "try: main()\nfinally: print(sorted(set(sys.modules) & {'torch', 'diffusers', 'timm', 'torchvision'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout.strip() == "[]"
    assert "dataset.root=nothing is not a folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def environment():
    import os

    return {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}


def test_a_task_asks_only_for_the_images_it_looks_at(tmp_path):
    layouts.files(tmp_path, 6)
    common = [
        "dataset=folder",
        f"dataset.root={tmp_path}",
        "dataset.test=6",
        "clip=openai_vit_b_16",
    ]
    assert configure("task=reconstruct", *common).dataset.test == 6
    configure("task=sample", "dataset=celeba_hq", "dataset.root=/nowhere")
    message = refusal(configure, *common)
    assert "has 0 images for train, but dataset.train=50 are asked for after 6 test" in message


def test_photographs_are_not_tuned_on_with_the_cartoons_clip(photographs):
    asked = ["dataset=celeba_hq", f"dataset.root={photographs['CelebaHq']}", "checkpoint=celeba_hq"]
    assert "choose clip=openai_vit_b_16" in refusal(configure, *asked)


# ------------------------------------------------------------------------------------------- id lists


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    layouts.files(root, 8)
    layouts.files(root / "sub", 4, "{}.jpg")
    return root


def listed(tmp_path, folder, text, **counts):
    (tmp_path / "ids.txt").write_text(text)
    return names_of(Folder(root=str(folder), ids=str(tmp_path / "ids.txt")), **counts)


def test_a_list_names_the_images_and_their_order(tmp_path, folder):
    text = "# mine\n00003.png\nsub/1.jpg   # with its folder\n00001\n7\n\nsub/2\n"
    names = ["00003.png", "sub/1.jpg", "00001.png", "00007.png", "sub/2.jpg"]
    assert listed(tmp_path, folder, text, test=2, train=2, validation=1) == {
        "test": names[:2], "train": names[2:4], "validation": names[4:],
    }  # fmt: skip


def test_a_list_may_name_some_splits_and_the_others_get_the_rest(tmp_path, folder):
    dealt = listed(
        tmp_path,
        folder,
        "[test]\nsub/0.jpg\nsub/3.jpg\n[validation]\n00000\n",
        test=2,
        train=9,
        validation=1,
    )
    assert dealt["test"] == ["sub/0.jpg", "sub/3.jpg"]
    assert dealt["validation"] == ["00000.png"]
    assert len(set(dealt["train"])) == 9
    assert not set(dealt["train"]) & {*dealt["test"], *dealt["validation"]}


def test_the_keys_of_an_lmdb_are_listed_too(tmp_path):
    data = lsun(tmp_path)
    keys = names_of(data)["test"]
    (tmp_path / "ids.txt").write_text("[train]\n" + "\n".join(keys[::-1]))
    data.ids = str(tmp_path / "ids.txt")
    assert names_of(data, train=3)["train"] == keys[::-1][:3]
    celeba = CelebaHq(
        root=str(layouts.celeba_lmdb(tmp_path / "celeba")), ids=str(tmp_path / "more.txt")
    )
    (tmp_path / "more.txt").write_text("[test]\n00003\n1\n")
    assert names_of(celeba, test=2)["test"] == ["00003", "00001"]
    assert len(names_of(celeba, test=2, train=9)["train"]) == 9  # the rest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("00001\n[test]\n00002\n", "lines above its first"),
        ("[tset]\n00001\n", "there is no split [tset]"),
        ("00001\nnothing.png\n", "1 lines are not in"),
        ("00001\n00001.png\n", "00001.png twice"),
        ("[test]\n00001\n", "has 1 images for test, but dataset.test=4"),
        (
            "00001\n00002\n00003\n00004\n00005\n",
            "has 1 images for train, but dataset.train=5 are asked for after 4 test",
        ),
    ],
)
def test_an_impossible_list_is_refused(tmp_path, folder, text, expected):
    assert expected in refusal(listed, tmp_path, folder, text)


def test_a_line_that_could_be_two_images_is_refused(tmp_path, folder):
    (folder / "other").mkdir()
    layouts.files(folder / "other", 2, "{}.jpg")
    assert "1.jpg could be" in refusal(partial(listed, test=1), tmp_path, folder, "1.jpg\n")
    assert listed(tmp_path, folder, "other/1.jpg\n", test=1) == {"test": ["other/1.jpg"]}


# ------------------------------------------------------------------------------------------- CIFAR-10's own format


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """CIFAR-10 with 3 images of each class a batch, in a tar on a local server; torchvision knows its md5s."""
    from torchvision.datasets import CIFAR10

    md5s = layouts.cifar_batches(tmp_path / "made" / "cifar-10-batches-py")
    (tmp_path / "server").mkdir()
    archive = tmp_path / "server" / CIFAR10.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(
        CIFAR10, "train_list", [[f"data_batch_{k}", md5s[f"data_batch_{k}"]] for k in range(1, 6)]
    )
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5s["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5s["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", layouts.hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(listing, "PER_CLASS", {"train": 15, "test": 3})
    cifar10._batches.cache_clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "server"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{CIFAR10.filename}")
    yield tmp_path
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_cifar10_is_fetched_checked_and_read_by_class(small_cifar):
    from dclip.data.load import fetch_data

    root = small_cifar / "fetched"
    settings = {
        "dataset": "cifar10",
        "dataset.root": root,
        "dataset.category": "ship",
        "task": "reconstruct",
        "dataset.test": 3,
    }
    cfg = configure(*words(settings))  # it may be fetched, so nothing is missing
    fetch_data(cfg)
    images = read(cfg.dataset, "test", 32)
    assert sorted(images.ids) == ["ship_0000", "ship_0001", "ship_0002"]
    expected = np.asarray(
        layouts.picture("test_batch25", (32, 32))
    )  # ships are class 8: pictures 24 to 26
    found = images.pixels[images.ids.index("ship_0001")]
    np.testing.assert_allclose(found.permute(1, 2, 0), expected / 127.5 - 1, atol=1e-5)
    whole = load(Cifar10(root=str(root)), "train", 32)
    assert len({name.split("_")[0] for name in whole.ids}) > 1


def test_cifar10_that_may_not_be_fetched_is_missing(tmp_path):
    settings = {"dataset": "cifar10", "dataset.root": tmp_path, "task": "reconstruct"}
    for more in ({"offline": "true"}, {"dataset.fetch": "false"}):
        (line,) = missing_data(configure(*words(settings | more)))
        assert "put there cifar-10-batches-py/" in line


def test_a_wrong_or_absent_archive_is_refused_with_what_to_do(small_cifar, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    assert "md5 0000" in refusal(cifar10.fetch, small_cifar / "a")
    monkeypatch.setattr(CIFAR10, "url", CIFAR10.url.replace("cifar-10", "gone"))
    assert "could not be fetched" in refusal(cifar10.fetch, small_cifar / "b")


def test_damaged_batches_are_refused(small_cifar):
    root = small_cifar / "made"
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(b"cut")
    assert "is not whole" in refusal(load, Cifar10(root=str(root)))


# ------------------------------------------------------------------------------------------- drawn by the model


@pytest.fixture
def sampled(nets):
    def configured(**more):
        counts = {"dataset.train": 3, "dataset.validation": 0, "dataset.test": 4}
        settings = {
            "dataset": "sampled",
            "dataset.steps": 5,
            "checkpoint.name": nets["model16"],
            "sampler.s_for": 6,
            **counts,
        }
        return configure(
            *words({**settings, "trainer": "cpu", "trainer.progress": "false"}, **more)
        )

    return configured


def test_images_are_drawn_without_any_data(sampled, model):
    from dclip.encode.source import drawn_images

    cfg = sampled()
    images = {split: drawn_images(cfg, model, split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in images.items()} == {
        "train": 3,
        "validation": 0,
        "test": 4,
    }
    assert images["test"].latents is None
    assert not torch.allclose(images["test"].pixels[:3], images["train"].pixels)
    more = drawn_images(sampled(dataset__train=3, dataset__test=6, trainer__batch=2), model, "test")
    torch.testing.assert_close(more.pixels[:4], images["test"].pixels, rtol=1e-4, atol=1e-4)
    other = drawn_images(sampled(seed=1), model, "test")
    assert not torch.allclose(other.pixels, images["test"].pixels)


def test_drawn_images_are_remembered(sampled, model, monkeypatch):
    from dclip.encode import source

    first = source.drawn_images(sampled(seed=5), model, "test")
    monkeypatch.setattr(source, "run_walk", lambda *_: pytest.fail("drawn again"))
    assert torch.equal(source.drawn_images(sampled(seed=5), model, "test").pixels, first.pixels)


def test_drawn_images_may_keep_their_latents_instead_of_being_inverted(sampled, model):
    import dclip
    from dclip.encode.invert import encode
    from dclip.encode.source import drawn_images

    cfg = sampled(dataset__invert="false", sampler__t0=400)
    images = drawn_images(cfg, model, "test")
    latents = encode(cfg, model, images)
    assert torch.equal(latents, images.latents)
    assert torch.equal(encode(cfg, model, images.take([2, 0])), latents[[2, 0]])
    again = dclip.generate(model, latents, t0=400, steps=6)
    torch.testing.assert_close(again.clamp(-1, 1), images.pixels, rtol=1e-4, atol=1e-4)


def test_the_way_down_passes_exactly_at_t0():
    from dclip.diffusion.schedule import pairs_above, pairs_down

    upper = pairs_above(400, 999, 50)
    assert upper[0][0] == 999
    assert upper[-1][1] == 400
    assert all(a[1] == b[0] for a, b in pairwise(upper))
    assert upper[:-1] == pairs_down(999, 50)[: len(upper) - 1]
    assert pairs_above(999, 999, 50) == []
