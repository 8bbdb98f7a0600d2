"""Faces turned and cropped as FFHQ's: geometry with known answers, files of landmarks, and a real detector on a photograph."""

import json
import logging

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dclip.data import align as a
from dclip.data.align import Aligner, align, face_square, four_points, read_landmarks
from dclip.data.images import read_files
from dclip.data.photographs import Folder
from dclip.errors import DclipError
from helpers import layouts
from helpers.runs import configure

UPRIGHT = np.array(
    [[90.0, 100], [110, 100], [94, 130], [106, 130]]
)  # eyes 20 apart, the mouth 30 below


def turned(points, degrees, about=(100, 100), scale=1.0):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - about) @ turn.T * scale + about


def drawn(points, size=(240, 260)):
    """A picture with a coloured disc at each of the four points."""
    picture = Image.new("RGB", size, (90, 90, 90))
    for (x, y), colour in zip(points, ["red", "lime", "blue", "yellow"], strict=True):
        ImageDraw.Draw(picture).ellipse((x - 5, y - 5, x + 5, y + 5), colour)
    return picture


def found(picture):
    """Where the coloured discs are now, as shares of the width."""
    pixels = np.asarray(picture, float)
    places = []
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)):
        rows, columns = np.nonzero(np.abs(pixels - colour).sum(-1) < 120)
        places.append(
            ((columns.mean() + 0.5) / pixels.shape[1], (rows.mean() + 0.5) / pixels.shape[0])
        )
    return np.array(places)


def test_an_upright_faces_square_has_the_recipes_size_and_place():
    centre, x, y = face_square(UPRIGHT)
    reach = max(2 * 20, 1.8 * 30)
    np.testing.assert_allclose(centre, [100, 103])
    np.testing.assert_allclose(x, [reach, 0], atol=1e-9)
    np.testing.assert_allclose(y, [0, reach], atol=1e-9)
    wide = UPRIGHT * [2, 1]
    np.testing.assert_allclose(face_square(wide)[1], [max(2 * 40, 1.8 * 30), 0], atol=1e-9)


def test_dlibs_68_points_and_mtcnns_5_mean_the_same_eyes_and_mouth():
    many = np.zeros((68, 2))
    many[36:42] = UPRIGHT[0] + np.array([[-3, 0], [-1, -2], [1, -2], [3, 0], [1, 2], [-1, 2]])
    many[42:48] = UPRIGHT[1] + np.array([[-3, 0], [-1, -2], [1, -2], [3, 0], [1, 2], [-1, 2]])
    many[48], many[54] = UPRIGHT[2], UPRIGHT[3]
    np.testing.assert_allclose(four_points(many), UPRIGHT)
    np.testing.assert_allclose(four_points(np.insert(UPRIGHT, 2, [100, 115], 0)), UPRIGHT)
    for wrong in (np.zeros((3, 2)), np.zeros((4, 3)), np.zeros(8)):
        with pytest.raises(DclipError, match="4, 5 or 68 points"):
            four_points(wrong)


@pytest.mark.parametrize("degrees", [0, 10, -35, 90, 180])
@pytest.mark.parametrize("scale", [0.9, 1.7])
def test_a_turned_face_becomes_upright_and_as_large_as_every_other(degrees, scale):
    points = turned(UPRIGHT, degrees, scale=scale) + np.array([15, 10])
    picture = align(drawn(points), points)
    side = 2 * 54 * scale
    assert picture.size == (round(side), round(side))
    np.testing.assert_allclose(found(picture), (UPRIGHT - [100 - 54, 103 - 54]) / 108, atol=0.012)


def test_what_is_inside_the_picture_is_not_touched_and_what_is_outside_is_mirrored():
    points = UPRIGHT - [90, 95]  # the face is in the corner
    clear = np.asarray(align(drawn(UPRIGHT), UPRIGHT), int)
    corner = align(drawn(points), points)
    assert corner.size == (108, 108)
    assert np.asarray(corner).max(-1).min() > 50  # no black borders
    inside = np.asarray(corner, int)[70:, 70:]
    assert np.abs(inside - clear[70:, 70:]).max() <= 1
    outer = np.asarray(corner, float)[:20, :20]
    assert outer.std() < np.asarray(corner, float).std()


def test_a_huge_face_is_bounded_and_points_outside_or_at_one_place_are_refused():
    large = UPRIGHT * 30
    assert align(Image.new("RGB", (6000, 6000)), large).size == (a.LARGEST, a.LARGEST)
    with pytest.raises(DclipError, match="outside the picture"):
        align(drawn(UPRIGHT), UPRIGHT + 5000)
    with pytest.raises(DclipError, match="at one point"):
        align(drawn(UPRIGHT), np.full((4, 2), 50.0))


# ------------------------------------------------------------------------------------------- files of landmarks


@pytest.mark.parametrize("kind", ["csv", "csv with a heading", "csv of numpy", "json"])
def test_landmarks_are_read_from_a_file(kind, tmp_path):
    path = tmp_path / f"points.{kind[:4].strip()}"
    if kind == "json":
        path.write_text(json.dumps({"a.png": UPRIGHT.tolist(), "sub/b": UPRIGHT.ravel().tolist()}))
    else:
        style = "{:.6e}" if "numpy" in kind else "{}"
        numbers = ",".join(map(style.format, UPRIGHT.ravel()))
        rows = [f"{name},{numbers}" for name in ("a.png", "sub/b")]
        path.write_text("\n".join([*(["name,x,y"] if "heading" in kind else []), *rows]))
    points = read_landmarks(path)
    assert set(points) == {"a.png", "sub/b"}
    np.testing.assert_allclose(points["sub/b"], UPRIGHT)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "a,1,2,3\n"),
        ("a.csv", "a,1,2,x,4\n"),
        ("a.csv", "a,1,2,3,4,5,6,7,8\nb,x\n"),
        ("a.json", "[1"),
        ("a.json", '{"a": 3}'),
    ],
)
def test_an_odd_file_of_landmarks_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DclipError, match=r"dataset.landmarks=.*write name,x,y"):
        read_landmarks(tmp_path / name)


def test_pictures_are_aligned_by_a_file_and_those_without_points_are_left_out_and_named(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    caplog.set_level(logging.INFO, logger="dclip")
    tilted = turned(UPRIGHT, 30)
    (tmp_path / "in").mkdir()
    drawn(tilted).save(tmp_path / "in" / "a.png")
    layouts.files(tmp_path / "in", 1, "b.png")
    (tmp_path / "points.csv").write_text(f"a,{','.join(map(str, tilted.ravel()))}\n")
    data = Folder(
        root=str(tmp_path / "in"), align=True, landmarks=str(tmp_path / "points.csv"), test=2
    )
    images = data.load("test", 108)
    assert images.ids == ("a",)
    picture = Image.fromarray(
        ((images.pixels[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    )
    np.testing.assert_allclose(found(picture), (UPRIGHT - [100 - 54, 103 - 54]) / 108, atol=0.02)
    assert "b.png cannot be aligned: it is not in dataset.landmarks" in caplog.text
    assert "aligned the faces of 1 of 2 pictures" in caplog.text


# ------------------------------------------------------------------------------------------- the detector


@pytest.fixture(scope="module")
def face():
    """A portrait that a package of ours ships (matplotlib: Grace Hopper, US Navy, public domain)."""
    import matplotlib.cbook

    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return Image.open(path).convert("RGB").resize((256, 300))


def test_a_face_is_found_turned_and_cropped(face):
    aligner = Aligner()
    upright = aligner("a", face)
    tilted = aligner("b", face.rotate(25, Image.Resampling.BICUBIC, expand=True))
    small = [
        np.asarray(picture.resize((48, 48)), float)[8:40, 8:40] for picture in (upright, tilted)
    ]
    alike = np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1]
    plain = np.asarray(face.rotate(25, Image.Resampling.BICUBIC).resize((48, 48)), float)[
        8:40, 8:40
    ]
    assert alike > 0.93
    assert (
        alike
        > np.corrcoef(np.asarray(face.resize((48, 48)), float)[8:40, 8:40].ravel(), plain.ravel())[
            0, 1
        ]
    )


def test_of_several_faces_the_largest_is_taken_and_said_and_a_picture_without_is_named(
    face, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    two = Image.new("RGB", (450, 300), (70, 70, 70))
    two.paste(face, (194, 0))
    two.paste(face.resize((128, 150)), (20, 100))
    alone = Aligner()("alone", face)
    largest = Aligner()("two", two)
    assert "two: 2 faces, the largest is taken" in caplog.text
    assert abs(largest.size[0] - alone.size[0]) < 0.05 * alone.size[0]
    (tmp_path / "in").mkdir()
    face.save(tmp_path / "in" / "grace.png")
    layouts.files(tmp_path / "in", 1, "nobody.png", (120, 120))
    assert read_files(tmp_path / "in", 32, Aligner()).ids == ("grace",)
    assert "nobody.png cannot be aligned: no face was found" in caplog.text


def test_without_the_detectors_package_alignment_is_refused_early(
    photographs, monkeypatch, tmp_path
):
    from dclip.data import missing
    from dclip.prepare import needs

    monkeypatch.setattr(missing, "find_spec", lambda name: None)
    asked = [
        "task=reconstruct",
        "dataset=folder",
        f"dataset.root={photographs['Folder']}",
        "dataset.test=2",
        "dataset.align=true",
    ]
    with pytest.raises(DclipError, match=r"pip install 'dclip\[align\]'"):
        needs.obtain([configure(*asked)])
    (tmp_path / "points.csv").write_text("a,1,2,3,4,5,6,7,8\n")
    assert configure(*asked, f"dataset.landmarks={tmp_path / 'points.csv'}").dataset.align
    with pytest.raises(DclipError, match=r"dataset.landmarks=.*does not exist"):
        needs.obtain([configure(*asked, "dataset.landmarks=nowhere.csv")])
    (tmp_path / "points.csv").write_bytes(b"\xff\xfe no landmarks")
    with pytest.raises(DclipError, match=r"dataset.landmarks=.*write name,x,y"):
        configure(*asked, f"dataset.landmarks={tmp_path / 'points.csv'}")
