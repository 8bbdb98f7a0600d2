from functools import partial

import pytest

from dclip.data.photographs import CelebaHq, Folder
from dclip.errors import DclipError
from helpers import layouts
from helpers.datasets import lsun, names_of, refusal

# ------------------------------------------------------------------------------------------- id lists


@pytest.fixture
def twenty(tmp_path):
    root = tmp_path / "images"
    layouts.files(root, 8)
    layouts.files(root / "sub", 4, "{}.jpg")
    return root


def listed(tmp_path, twenty, text, **counts):
    (tmp_path / "ids.txt").write_text(text)
    return names_of(Folder(root=str(twenty), ids=str(tmp_path / "ids.txt")), **counts)


def test_a_list_names_the_images_and_their_order(tmp_path, twenty):
    text = "# mine\n00003.png\nsub/1.jpg   # with its folder\n00001\n7\n\nsub/2\n"
    names = ["00003.png", "sub/1.jpg", "00001.png", "00007.png", "sub/2.jpg"]
    assert listed(tmp_path, twenty, text, test=2, train=2, validation=1) == {
        "test": names[:2], "train": names[2:4], "validation": names[4:],
    }  # fmt: skip


def test_a_list_may_name_some_splits_and_the_others_get_the_rest(tmp_path, twenty):
    chosen = listed(
        tmp_path,
        twenty,
        "[test]\nsub/0.jpg\nsub/3.jpg\n[validation]\n00000\n",
        test=2,
        train=9,
        validation=1,
    )
    assert chosen["test"] == ["sub/0.jpg", "sub/3.jpg"]
    assert chosen["validation"] == ["00000.png"]
    assert len(set(chosen["train"])) == 9
    assert not set(chosen["train"]) & {*chosen["test"], *chosen["validation"]}


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
        ("[test]\n00001\n", "has 1 image for test, but dataset.test=4"),
        (
            "00001\n00002\n00003\n00004\n00005\n",
            "has 1 image for train, but dataset.train=5 are asked for after 4 test",
        ),
    ],
)
def test_an_impossible_list_is_refused(tmp_path, twenty, text, expected):
    assert expected in refusal(listed, tmp_path, twenty, text)


def test_a_line_that_could_be_two_images_is_refused(tmp_path, twenty):
    (twenty / "other").mkdir()
    layouts.files(twenty / "other", 2, "{}.jpg")
    assert "1.jpg could be" in refusal(partial(listed, test=1), tmp_path, twenty, "1.jpg\n")
    assert listed(tmp_path, twenty, "other/1.jpg\n", test=1) == {"test": ["other/1.jpg"]}


def split_folder(root, counts):
    return {
        split: [pool.place / name for pool, name in part]
        for split, part in Folder(root=str(root)).chosen(counts).items()
    }


def test_splits_are_disjoint_and_as_large_as_asked(folder):
    splits = split_folder(folder, {"test": 5, "train": 12, "validation": 3})
    assert {k: len(v) for k, v in splits.items()} == {"test": 5, "train": 12, "validation": 3}
    assert len({p for part in splits.values() for p in part}) == 20


def test_splits_are_repeatable_and_not_alphabetical(folder):
    counts = {"test": 5, "train": 12, "validation": 3}
    assert split_folder(folder, counts) == split_folder(folder, counts)
    names = [p.name for p in split_folder(folder, {"all": 20})["all"]]
    assert names != sorted(names)


def test_splits_do_not_depend_on_where_the_folder_is(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("moved") / "folder"
    folder.rename(other)
    before = [p.relative_to(other) for p in split_folder(other, {"test": 6, "train": 6})["test"]]
    other.rename(folder)
    assert [
        p.relative_to(folder) for p in split_folder(folder, {"test": 6, "train": 6})["test"]
    ] == before


def test_asking_for_more_training_images_leaves_the_test_images_alone(folder):
    few, many = (
        split_folder(folder, {"test": 5, "train": n, "validation": 1})["test"] for n in (2, 14)
    )
    assert few == many


def test_a_folder_with_too_few_images_is_refused_with_the_numbers(folder):
    with pytest.raises(
        DclipError,
        match=r"has 10 images for train, but dataset.train=12 are asked for after 10 test",
    ):
        split_folder(folder, {"test": 10, "train": 12})
