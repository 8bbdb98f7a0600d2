"""Tiny data sets in every published layout, made on the spot."""

import hashlib
import io
import pickle

import numpy as np
from PIL import Image

WNIDS = ("n01440764", "n04409515")  # tench, tennis ball


def picture(name, size=(40, 36)):
    """A picture that its name decides."""
    random = np.random.default_rng(
        int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:4], "big")
    )
    small = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def encoded(name, size=(40, 36), kind="PNG"):
    stream = io.BytesIO()
    picture(name, size).save(stream, kind)
    return stream.getvalue()


def files(folder, count, pattern="{:05d}.png", size=(40, 36)):
    for i in range(count):
        path = folder / pattern.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(
            f"{[part for part in path.parts if part in ('train', 'test', 'val')]} {path.name}", size
        ).save(path)
    return folder


def numbered_lmdb(path, count, sizes=(16, 64)):
    """As StyleMapGAN's script makes it."""
    import lmdb

    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as out:
        for i in range(count):
            for size in sizes:
                out.put(
                    f"{size}-{i:05d}".encode(), encoded(f"{path.name} {i}", (size, size), "JPEG")
                )
        out.put(b"length", str(count).encode())


def lsun(root, category, split, count):
    import lmdb

    path = root / f"{category}_{split}_lmdb"
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**24) as env, env.begin(write=True) as out:
        for i in range(count):
            key = hashlib.sha1(f"{split}{i}".encode()).hexdigest()
            out.put(key.encode(), encoded(key, (50, 36), "WEBP"))
    return root


def celeba_lmdb(root, train=9, test=5):
    numbered_lmdb(root / "LMDB_train", train, (64, 128))
    numbered_lmdb(root / "LMDB_test", test, (64, 128))
    return root


def afhq(root, train=9, test=5, held="val"):
    for animal in ("dog", "cat"):
        for split, count in (("train", train), (held, test)):
            files(root / split / animal, count, f"flickr_{animal}_{{:06d}}.jpg")
    return root


def imagenet(root, train=9, test=5):
    for wnid in WNIDS:
        files(root / "train" / wnid, train, wnid + "_{}.JPEG")
        files(root / "val" / wnid, test, f"ILSVRC2012_val_{wnid[-3:]}{{:05d}}.JPEG")
    return root


def cifar_batches(folder, per_class=3):
    """CIFAR-10's own format, ``per_class`` images of each class a batch; the md5 of each file."""
    folder.mkdir(parents=True)
    md5s = {}
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        labels = [k for k in range(10) for _ in range(per_class)]
        images = [
            np.asarray(picture(f"{name}{i}", (32, 32))).transpose(2, 0, 1).ravel()
            for i in range(len(labels))
        ]
        (folder / name).write_bytes(pickle.dumps({"data": np.stack(images), "labels": labels}))
    names = {
        "label_names": [
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ]
    }
    (folder / "batches.meta").write_bytes(pickle.dumps(names))
    for file in folder.iterdir():
        md5s[file.name] = hashlib.md5(file.read_bytes()).hexdigest()
    return md5s


def roots(folder):
    """A root for every data set that experiments use, by the name of its dataclass."""
    lsun(folder / "lsun", "bedroom", "train", 9)
    lsun(folder / "lsun", "bedroom", "val", 5)
    return {
        "CelebaHq": celeba_lmdb(folder / "celeba_hq"),
        "Ffhq": files(folder / "ffhq", 14, "0{0}/{0:05d}.png"),
        "Folder": files(folder / "folder", 14),
        "Afhq": afhq(folder / "afhq"),
        "Lsun": lsun(folder / "lsun", "church_outdoor", "train", 14),
        "ImageNet": imagenet(folder / "imagenet"),
        "Cifar10": files(
            files(folder / "cifar10", 9, "train/automobile/{:04d}.jpg"),
            5,
            "test/automobile/{:04d}.jpg",
        ),
    }
