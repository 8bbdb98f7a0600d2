"""The networks whose features LPIPS, KID and FID compare."""

from pathlib import Path

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from dclip.metrics.features import INCEPTION, TRUNKS, inception_features, lpips_network
from dclip.metrics.presets import PRESETS, Choices
from dclip.metrics.scorers import Scorers
from dclip.models import registry
from dclip.types import to_uint8


def put(folder, monkeypatch, name, content):
    """A file under the name of a network, where torch keeps what it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    place = folder / "hub" / "checkpoints"
    place.mkdir(parents=True)
    path = place / registry.get(name).files[0].name
    torch.save(content, path)
    return path


@pytest.fixture
def random_inception(tmp_path, monkeypatch):
    """The same random weights for whoever builds Inception."""
    put(tmp_path, monkeypatch, INCEPTION, {"weight": torch.zeros(1)})
    monkeypatch.setattr(registry, "verdict", lambda *_: (True, ""))

    def fill(net, state):
        generator = torch.Generator().manual_seed(0)
        for name, parameter in net.named_parameters():
            if name.endswith("conv.weight"):
                scale = (2 / parameter[0].numel()) ** 0.5
                parameter.data = scale * torch.randn(parameter.shape, generator=generator)

    monkeypatch.setattr(FeatureExtractorInceptionV3, "load_state_dict", fill)
    path = registry.located(registry.get(INCEPTION))
    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_kid_and_fid_see_what_torch_fidelity_sees(random_inception):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    published = random_inception(to_uint8(images))[0]
    for choices in (Choices(), PRESETS["dclip"], PRESETS["piebench"]):
        extractor = Scorers(choices=choices).extractor()
        assert extractor.label == "inception-v3-compat"
        assert torch.equal(extractor(images), published)
    theirs = Scorers(choices=PRESETS["torchmetrics"]).extractor()
    assert theirs.label == "inception-v3-compat, anti-aliased"
    assert relative(theirs(images), published) > 1e-3


def test_preset_torchmetrics_sees_what_torchmetrics_sees(random_inception, tmp_path):
    from torchmetrics.image.fid import NoTrainInceptionV3

    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    path = registry.located(registry.get(INCEPTION))
    net = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    theirs = Scorers(choices=PRESETS["torchmetrics"]).extractor()
    assert torch.equal(theirs(images), net(to_uint8(images)))


@pytest.mark.parametrize("name", [INCEPTION, *(entry for _, entry in TRUNKS.values())])
def test_another_file_under_a_networks_name_is_not_used(tmp_path, monkeypatch, name):
    path = put(tmp_path, monkeypatch, name, {"weight": torch.zeros(1)})
    trunk = {entry: key for key, (_, entry) in TRUNKS.items()}.get(name)
    reason = inception_features() if trunk is None else lpips_network(trunk)
    published = path.stem.rsplit("-", 1)[1]
    assert f"{path} is not the published {name}" in reason
    assert f"not {published}" in reason and "\n" not in reason


def test_a_file_that_would_run_code_is_not_used(tmp_path, monkeypatch):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "it has run",)

    put(tmp_path, monkeypatch, INCEPTION, {"weight": Hostile()})
    monkeypatch.setattr(registry, "verdict", lambda *_: (True, ""))
    assert isinstance(inception_features(), str)
    assert not (tmp_path / "it has run").exists()
