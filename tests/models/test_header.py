"""What a file's name and header say."""

import json
import struct

import pytest

from dclip.errors import DclipError
from dclip.models import header
from dclip.models.checkpoints import load_model
from dclip.models.foreign import read_foreign


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("human_tanned_t201.pth", 201),
        ("a/b/human_pixar_t601.pth", 601),
        ("dog_bear_t500", 500),
        ("celeba_hq.ckpt", None),
        ("cat_t601_v2.pth", None),
        ("x_t0.pth", None),
        ("x_t1000.pth", None),
        ("test601.pth", None),
    ],
)
def test_t0_is_read_from_published_names(name, expected):
    assert header.t0_from_name(name) == expected


def safetensors(header, data=b"", length=None):
    """The bytes of a safetensors file with this header, whose length may be a lie."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start, end, shape=(2,)):
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}


HOSTILE = {
    "a header of gigabytes": safetensors({"a": tensor(0, 8)}, bytes(8), length=2**33),
    "a header of more than there is": safetensors({"a": tensor(0, 8)}, bytes(8), length=2**63),
    "negative offsets": safetensors({"a": tensor(-8, 0)}, bytes(8)),
    "offsets past the end": safetensors({"a": tensor(0, 2**40, (2**38,))}, bytes(8)),
    "tensors that overlap": safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)),
    "a shape that overflows": safetensors({"a": tensor(0, 8, (2**62, 4))}, bytes(8)),
    "no header": struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_safetensors_file_is_refused_in_one_line(tmp_path, what):
    path = tmp_path / "net.safetensors"
    path.write_bytes(HOSTILE[what])
    for read in (header.read_header, read_foreign, load_model):
        with pytest.raises(DclipError, match=r"safetensors|damaged") as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("document", ["no json", "[1, 2]", '{"kind": '])
def test_a_file_whose_own_document_is_damaged_is_refused(tmp_path, document):
    path = tmp_path / "net.safetensors"
    metadata = {header.KEY: document}
    path.write_bytes(safetensors({"__metadata__": metadata, "a": tensor(0, 8)}, bytes(8)))
    with pytest.raises(DclipError, match="damaged header; fetch or make it again"):
        header.read_header(path)
