import torch

from dclip.models.identity import IR_SE50, IdentityModel, IrSe
from helpers.networks import identity_net


def test_ir_se50_has_the_published_size():
    net = IrSe()
    assert net.config is IR_SE50
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 43_797_696
    assert len(net.state_dict()) == 397


def test_identity_features_are_unit_vectors_of_the_crop():
    torch.manual_seed(0)
    net = identity_net().eval()
    x = torch.rand(2, 3, 128, 128) * 2 - 1
    whole, half = IdentityModel(net), IdentityModel(net, (0.0, 0.5, 0.0, 0.5))
    with torch.no_grad():
        torch.testing.assert_close(whole.features(x).norm(dim=1), torch.ones(2))
        torch.testing.assert_close(half.features(x), whole.features(x[..., :64, :64]))
        outside = x.clone()
        outside[..., 64:, :] = 0
        assert torch.equal(half.features(outside), half.features(x))
