import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from dclip.data import cifar10
from dclip.data.cifar10 import Cifar10
from helpers import layouts
from helpers.datasets import load, refusal
from helpers.runs import configure, words

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
    monkeypatch.setattr(cifar10, "PER_CLASS", {"train": 15, "test": 3})
    cifar10._arrays.cache_clear()
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
    images = cfg.dataset.load("test", 32)
    assert sorted(images.ids) == ["ship_0000", "ship_0001", "ship_0002"]
    expected = np.asarray(
        layouts.picture("test_batch25", (32, 32))
    )  # ships are class 8: pictures 24 to 26
    found = images.pixels[images.ids.index("ship_0001")]
    np.testing.assert_allclose(found.permute(1, 2, 0), expected / 127.5 - 1, atol=1e-5)
    whole = load(Cifar10(root=str(root)), "train", 32)
    assert len({name.split("_")[0] for name in whole.ids}) > 1


def test_a_wrong_or_absent_archive_is_refused_with_what_to_do(small_cifar, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    assert "md5 0000" in refusal(cifar10.fetch, small_cifar / "a")
    monkeypatch.setattr(CIFAR10, "url", CIFAR10.url.replace("cifar-10", "gone"))
    assert "could not be fetched" in refusal(cifar10.fetch, small_cifar / "b")
    assert not (small_cifar / "b").exists(), "an empty folder was left"


def test_damaged_batches_are_refused(small_cifar):
    root = small_cifar / "made"
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(b"cut")
    assert "is not whole" in refusal(load, Cifar10(root=str(root)))
