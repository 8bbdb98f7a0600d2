"""Published networks that tests of several modules convert."""

import pytest

from helpers.published_networks import (
    ADM,
    DDIM,
    AdmNet,
    DdimNet,
    random_net,
)


@pytest.fixture(scope="module")
def ddim():
    return random_net(DdimNet, **DDIM)


@pytest.fixture(scope="module")
def adm():
    return random_net(AdmNet, **ADM)
