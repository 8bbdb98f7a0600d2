"""LMDBs that are not whole."""

import lmdb
import pytest

from dclip.data.lmdbs import environment
from dclip.data.photographs import Afhq, CelebaHq
from dclip.errors import DclipError
from helpers import layouts
from helpers.runs import command, configure


def cut(path):
    """Leave half of the file; how many bytes its pages lack then."""
    with lmdb.open(str(path), readonly=True, lock=False) as opened:
        whole = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
    file = path / "data.mdb"
    content = file.read_bytes()[: whole // 2]
    file.write_bytes(content)
    return whole - len(content)


@pytest.mark.parametrize("more", [(), ("plan=true",)])
def test_an_lmdb_that_was_cut_off_is_refused_with_the_bytes_that_are_missing(tmp_path, more):
    layouts.celeba_lmdb(tmp_path / "data", 60, 5)
    missing = cut(tmp_path / "data" / "LMDB_train")
    words = ["dataset=celeba_hq", f"dataset.root={tmp_path}/data", "checkpoint=celeba_hq"]
    done = command(*words, *more, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"LMDB_train/data.mdb is cut off: {missing:,} of its" in done.stderr


def test_an_lmdb_is_whole_although_its_last_pages_were_never_written(tmp_path):
    layouts.numbered_lmdb(tmp_path / "LMDB_test", 4, (64,))
    with lmdb.open(str(tmp_path / "LMDB_test"), map_size=2**24) as env:
        with env.begin(write=True) as out:
            out.put(b"x", bytes(50_000))
            out.delete(b"x")
        pages = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    file = tmp_path / "LMDB_test" / "data.mdb"
    used = file.read_bytes()
    if len(used) >= pages:  # this version writes them: the file as if it did not
        file.write_bytes(used[: len(used) - 40_960])
    assert file.stat().st_size < pages
    assert CelebaHq(root=str(tmp_path)).pools()["all"].first(9) != []


def test_what_is_cut_in_its_first_page_is_no_lmdb(tmp_path):
    path = tmp_path / "LMDB_test"
    layouts.numbered_lmdb(path, 4, (64,))
    (path / "data.mdb").write_bytes((path / "data.mdb").read_bytes()[:5000])
    with pytest.raises(DclipError, match=r"is not a readable LMDB|is cut off"):
        environment(path)


def test_afhq_in_lmdbs_has_no_animals_to_choose(tmp_path):
    root = layouts.celeba_lmdb(tmp_path)
    for animal in ("dog", "cat"):
        with pytest.raises(DclipError, match=f"dataset.category={animal} cannot be chosen from"):
            configure("dataset=afhq", f"dataset.root={root}", f"dataset.category={animal}")
    both = Afhq(root=str(root), category=None).pools()
    assert {len(pool.first(99)) for pool in both.values()} == {9, 5}


def test_all_animals_of_afhqs_folders(tmp_path):
    root = layouts.afhq(tmp_path)
    names = Afhq(root=str(root), category=None).pools()["train"].first(99)
    assert {name.split("/")[0] for name in names} == {"dog", "cat"} and len(names) == 18
