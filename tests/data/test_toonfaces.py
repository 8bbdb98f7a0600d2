import re
from itertools import pairwise

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.ndimage import binary_dilation

from dclip import files
from dclip.data.domains import true_images, truth_of
from dclip.data.toonfaces import captions, drawing, many, truths
from dclip.data.toonfaces import faces as tf
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.words import parse_attributes
from dclip.types import to_uint8
from helpers.runs import ROOT


def test_the_shipped_manifest_is_reproduced_on_this_machine():
    made = drawing.read_manifest()
    assert made["versions"] == drawing.versions()
    assert made["pixel_sha256"] == drawing.pixel_hash()
    assert {k: tuple(v) for k, v in made["attributes"].items()} == tf.ATTRIBUTES


def test_a_face_is_the_same_for_ever():
    assert tf.sample_face("test", 3) == tf.sample_face("test", 3)
    assert np.array_equal(
        drawing.render(tf.sample_face("test", 3)), drawing.render(tf.sample_face("test", 3))
    )
    picture = drawing.render(tf.sample_face("test", 3))
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10


def test_splits_share_no_identity_and_no_face():
    for make in (lambda s, i: tf.sample_identity(s, i)[0], lambda s, i: tf.sample_face(s, i)):
        groups = {split: {make(split, i) for i in range(400)} for split in tf.SPLITS}
        assert all(len(g) == 400 for g in groups.values())
        for a, b in pairwise([*tf.SPLITS, tf.SPLITS[0]]):
            assert not groups[a] & groups[b]


def test_in_domain_faces_never_hold_what_clip_has_to_teach():
    for split in tf.SPLITS:
        for i in range(500):
            face = tf.sample_face(split, i)
            for attribute, values in tf.OUT_OF_DOMAIN.items():
                assert face[attribute] not in values


def test_all_domains_hold_every_value():
    faces = [tf.sample_face("train", i, "all") for i in range(1500)]
    for attribute, values in tf.ATTRIBUTES.items():
        assert {f[attribute] for f in faces} == set(values), attribute


def test_variants_keep_the_identity_and_change_the_rest():
    first, second = (tf.sample_face("train", 5, "all", v) for v in (0, 1))
    assert first.geometry == second.geometry
    assert first["cut"] == second["cut"]
    assert first.attributes != second.attributes


def difference(a, b):
    """Largest difference of a channel, per pixel."""
    return np.abs(drawing.render(a).astype(int) - drawing.render(b).astype(int)).max(-1)


def near(parts, *names):
    """Pixels of these parts and their neighbours, which anti-aliasing mixes with them."""
    mask = np.isin(parts, [tf.PARTS.index(n) for n in names])
    return binary_dilation(mask, np.ones((3, 3), bool), iterations=2)


@pytest.mark.parametrize(
    ("edit", "touched", "own"),
    [
        ("red_hair", ("hair", "beard", "eyes"), "hair"),
        ("zombie", ("skin", "eyes", "mouth"), "skin"),
    ],
)
def test_a_colour_edit_changes_only_its_parts(edit, touched, own):
    # brows and beards have the hair's colour, lids and lips the skin's; thin edges show through a little further out
    for i in range(12):
        face = tf.sample_face("test", i).with_(hair_color="brown", skin="fair")
        true = truths.counterfactual(face, truths.TRUTHS[edit])
        parts = drawing.render_parts(face)
        assert np.array_equal(parts, drawing.render_parts(true))
        changed = difference(face, true)
        outside = changed[~near(parts, *touched)]
        assert (outside > 0).mean() < 0.03
        assert outside.max() <= 32
        inside = changed[parts == tf.PARTS.index(own)]
        assert (inside > 0).mean() > 0.9
        assert np.median(inside) > 32


@pytest.mark.parametrize("edit", [e for e, t in truths.TRUTHS.items() if t.attribute != "style"])
def test_a_counterfactual_changes_its_attribute_and_nothing_else(edit):
    truth = truths.TRUTHS[edit]
    face = next(f for f in (tf.sample_face("test", i) for i in range(100)) if truth.applies(f))
    true = truths.counterfactual(face, truth)
    assert true[truth.attribute] == truth.value
    assert all(true[a] == face[a] for a in tf.ATTRIBUTES if a != truth.attribute)
    assert (true.geometry, true.rear, true.jitter, true.seed) == (
        face.geometry,
        face.rear,
        face.jitter,
        face.seed,
    )
    assert (difference(face, true) > 0).sum() > 5


def test_a_style_has_no_counterfactual():
    with pytest.raises(ValueError, match="style"):
        truths.counterfactual(tf.sample_face("test", 0), truths.TRUTHS["sketch"])
    assert true_images(toonfaces("test", 2), truths.TRUTHS["sketch"]) is None
    assert true_images(toonfaces("test", 2), None) is None


def test_only_applicable_faces_are_loaded_and_their_truth_is_drawn():
    images = toonfaces("test", 6, truths.TRUTHS["beard"])
    assert all(f["beard"] == "none" for f in images.facts)
    assert images.ids == tuple(sorted(set(images.ids)))
    truth = true_images(images, truths.TRUTHS["beard"])
    expected = drawing.render(images.facts[4].with_(beard="full"))
    assert np.array_equal(to_uint8(truth[4]).permute(1, 2, 0).numpy(), expected)


def test_the_truth_of_an_edit_is_known_only_for_its_own_text():
    from helpers.runs import configure

    assert truth_of(configure("edit=zombie")) == truths.TRUTHS["zombie"]
    assert truth_of(configure("edit.source=person", "edit.target=person with blue hair")) is None
    assert truth_of(configure("edit=zombie", "edit.target=person with blue hair")) is None


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (lambda: tf.check_value("hair", "red"), "no attribute 'hair'"),
        (lambda: tf.check_value("hair_color", "rde"), "no value 'rde'; choose from black"),
        (lambda: tf.sample_face("test", 0).with_(skin="purple"), "no value 'purple'"),
        (lambda: tf.sample_face("test", 0).with_(nose="long"), "no attribute 'nose'"),
        (lambda: tf.sample_face("tset", 0), "no split 'tset'"),
        (lambda: tf.sample_identity("val", 0), "no split 'val'"),
        (lambda: tf.sample_face("test", 0, "out"), "no domain 'out'"),
    ],
)
def test_a_misspelt_name_is_an_error_with_the_choices(attempt, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        attempt()


@pytest.mark.parametrize("name", truths.TRUTHS)
def test_a_truth_names_values_that_exist_and_its_edits_text_says_the_same(name):
    truth = truths.TRUTHS[name]
    for value in (truth.value, *(truth.applies_to or ())):
        tf.check_value(truth.attribute, value)
    edit = OmegaConf.load(ROOT / "conf" / "edit" / f"{name}.yaml").edit
    assert parse_attributes(edit.target) == dict(truth.goal)
    assert parse_attributes(edit.source).get(truth.attribute) != truth.value


def test_labels_say_minus_one_where_nothing_can_be_seen():
    toon = tf.sample_face("test", 0).with_(expression="neutral")
    assert tf.labels(toon) == {k: v.index(toon[k]) for k, v in tf.ATTRIBUTES.items()}
    assert tf.labels(toon.with_(expression="surprised"))["eyes"] == -1
    sketch = tf.labels(toon.with_(style="sketch"))
    assert sketch.pop("style") == 1
    assert set(sketch.values()) == {-1}


# ------------------------------------------------------------------------------------------- captions

EXPRESSIONS = {
    "calm": "neutral", "neutral": "neutral", "smiling": "smiling", "happy": "smiling", "sad": "sad", "unhappy": "sad",
    "angry": "angry", "furious": "angry", "surprised": "surprised", "astonished": "surprised",
}  # fmt: skip
BEARDS = {
    "no beard": {"none"}, "a shaved chin": {"none"}, "a moustache": {"moustache"}, "a twirled moustache": {"moustache"},
    "a goatee": {"goatee"}, "a goatee & moustache": {"goatee"}, "a beard": {"full", "long"}, "a full beard": {"full"},
    "a long beard": {"long"},
    "a very long beard": {"long"},
}  # fmt: skip
STYLES = {"a cartoon of": "toon", "a picture of": "toon", "an image of": "toon"}


def claims(text):
    """(attribute, values) that a caption claims. Fails at a word it does not know."""
    text = text.replace("a goatee and moustache", "a goatee & moustache")
    for prefix, style in STYLES.items():
        if text.startswith(prefix):
            yield "style", {style}
            text = text[len(prefix) :].strip()
    head, _, tail = text.partition(" with ")
    for word in head.split():
        if word in EXPRESSIONS:
            yield "expression", {EXPRESSIONS[word]}
        elif word == "zombie":
            yield "skin", {"green"}
        elif word in tf.ATTRIBUTES["skin"]:
            yield "skin", {word}
        else:
            assert word in ("a", "an", "face", "person", "human", "character"), (word, text)
    for clause in re.split(", | and ", tail) if tail else []:
        if clause.endswith(" hair"):
            words = clause.removesuffix(" hair").replace("light brown", "light_brown").split()
            for word in words:
                yield (
                    ("hair_length" if word in tf.ATTRIBUTES["hair_length"] else "hair_color"),
                    {word},
                )
        elif clause.endswith(" skin"):
            yield "skin", {clause.removesuffix(" skin")}
        elif clause.endswith(" clothes"):
            yield "clothes_color", {clause.removesuffix(" clothes")}
        else:
            yield "beard", BEARDS[clause]


def test_every_caption_names_only_what_is_true():
    rng, named = np.random.default_rng(0), set()
    for i in range(3000):
        face = tf.sample_face("train", i, "all")
        text = captions.caption(face, rng)
        assert re.match("an? ", text) or face["style"] == "pixel", text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou8]|  ", text), text
        if face["style"] != "toon":
            continue
        for attribute, values in claims(text):
            assert face[attribute] in values, (text, face)
            named.add(attribute)
    assert named == {
        "style",
        "hair_color",
        "hair_length",
        "skin",
        "beard",
        "expression",
        "clothes_color",
    }


@pytest.mark.parametrize(("style", "word"), [("sketch", "sketch|drawing"), ("pixel", "pixel")])
def test_captions_of_other_styles_name_the_style_and_no_attribute(style, word):
    rng = np.random.default_rng(0)
    for i in range(200):
        text = captions.caption(tf.sample_face("train", i).with_(style=style), rng)
        assert re.search(word, text)
        assert re.search(r" of an? (face|person|human|character)$", text)


# ------------------------------------------------------------------------------------------- drawing many


def test_many_faces_are_drawn_as_one_and_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(many, "CHUNK", 2)
    monkeypatch.setattr(many, "PARALLEL_FROM", 2)
    monkeypatch.setenv("DCLIP_CACHE", str(tmp_path))
    faces = [tf.sample_face("test", i, "all").with_(style="toon") for i in range(5)]
    direct, parts = (
        np.stack([drawing.render(f) for f in faces]),
        np.stack([drawing.render_parts(f) for f in faces]),
    )
    assert np.array_equal(many.pictures_of(faces, workers=1), direct)
    assert np.array_equal(many.part_maps_of(faces, workers=1), parts)
    assert len(list((tmp_path / "toonfaces").glob("*.npy"))) == 2

    def never(*_, **__):
        raise AssertionError("drawn again")

    monkeypatch.setattr(many, "ProcessPoolExecutor", never)
    assert np.array_equal(many.pictures_of(faces), direct)
    assert np.array_equal(many.part_maps_of(faces), parts)
    with pytest.raises(AssertionError, match="drawn again"):
        many.pictures_of(
            [*faces[:4], faces[4].with_(skin="green" if faces[4]["skin"] != "green" else "pale")]
        )


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "deep" / "file.txt"

    def fails(temporary):
        temporary.write_text("half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        files.atomic_save(path, fails)
    assert list(path.parent.iterdir()) == []
    files.atomic_save(path, lambda p: p.write_text("whole"))
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert path.read_text() == "whole"
