"""How fast an edit was learned."""

import pytest
import torch

from dclip.runtime import speed as speed_module
from dclip.runtime.speed import matmul_gflops, speed


def test_the_share_of_the_device_is_that_of_a_matrix_product(monkeypatch):
    monkeypatch.setattr(speed_module, "matmul_gflops", lambda device, threads: 200.0)
    reached = speed(60, 300, 20.0, 2.0, torch.device("cpu"))
    assert reached == {"images_per_s": 3.0, "gflops": 30.0, "mfu": pytest.approx(0.15)}


def test_of_an_unknown_network_only_images_are_counted():
    assert speed(60, 300, 20.0, None, torch.device("cpu")) == {"images_per_s": 3.0}


def test_a_matrix_product_has_a_rate():
    assert 0.1 < matmul_gflops("cpu", torch.get_num_threads()) < 1e6
