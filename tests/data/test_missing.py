import subprocess
import sys

from dclip.data.cifar10 import Cifar10
from dclip.data.imagenet import ImageNet
from dclip.data.missing import missing, missing_data
from dclip.data.photographs import Afhq, CelebaHq, Ffhq, Folder, Lsun
from helpers import layouts
from helpers.datasets import refusal
from helpers.runs import ROOT, configure, words

# ------------------------------------------------------------------------------------------- what is missing


def test_missing_images_are_said_with_folder_layout_and_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # in a checkout, data/ may be filled
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


def test_cifar10_that_may_not_be_fetched_is_missing(tmp_path):
    settings = {"dataset": "cifar10", "dataset.root": tmp_path, "task": "reconstruct"}
    for more in ({"offline": "true"}, {"dataset.fetch": "false"}):
        (line,) = missing_data(configure(*words(settings | more)))
        assert "put there cifar-10-batches-py/" in line
