"""Which run an edit's name means, and what is said of it."""

import pytest
from omegaconf import OmegaConf

from dclip.config import plain
from dclip.edits.header import check_base_name
from dclip.edits.named import FILE, find_edits, standing
from dclip.edits.saved import SavedEdit, described, read_edit
from dclip.errors import DclipError
from dclip.files import read_json, write_json
from dclip.prepare.paths import CONF
from dclip.record.runs import Run
from helpers.networks import write_edit
from helpers.odd_files import half_and_half
from helpers.runs import configure, run, words

QUICK = ("experiment=toonfaces_red_hair", "preset=quick")


@pytest.fixture
def learned(tmp_path):
    """Writes what a run leaves in its folder, but for tensors."""

    def write(day, *command, status="finished", sweep=""):
        cfg = configure(*command)
        folder = tmp_path / "finetune_red_hair" / f"2026-01-{day:02d}_00-00-00_{day:08d}"
        origin = {"command": cfg.command, "variant": cfg.variant}
        write_json(folder / "status.json", {"status": status, "sweep": sweep, **origin})
        OmegaConf.save(OmegaConf.create(plain(cfg)), folder / "config.yaml")
        (folder / FILE).touch()
        return folder

    return write


def meant(tmp_path):
    [file] = find_edits("red_hair", str(tmp_path))
    return file


def test_a_name_is_the_newest_finished_run_of_the_experiment_itself(learned, tmp_path):
    photo = tmp_path / "photo.png"
    half_and_half().save(photo)
    first = learned(1, "experiment=toonfaces_red_hair")
    newest = learned(2, "experiment=toonfaces_red_hair", "seed=1", "trainer.threads=1")
    learned(3, "experiment=single_image", f"input={photo}")
    learned(4, "experiment=toonfaces_red_hair", "method.epochs=1", sweep="2026-01-04_00-00-00")
    learned(5, "experiment=toonfaces_red_hair", "preset=[quick,shared]")
    learned(6, "experiment=toonfaces_red_hair", "preset=last_k")
    learned(7, "experiment=toonfaces_red_hair", status="failed")
    learned(8, "experiment=toonfaces_red_hair", "method.epochs=1")
    learned(9, *QUICK)
    assert meant(tmp_path) == str(newest / FILE)
    (newest / FILE).unlink()
    assert meant(tmp_path) == str(first / FILE)
    (first / FILE).unlink()
    assert "2026-01-09" in meant(tmp_path)


def test_a_name_means_a_run_of_the_checkpoint_at_hand(learned, tmp_path):
    mine = learned(1, "experiment=toonfaces_red_hair", "method.epochs=1")
    other = learned(2, "experiment=toonfaces_red_hair")
    path = other / "config.yaml"
    path.write_text(path.read_text("utf-8").replace("name: toonfaces\n", "name: other\n"), "utf-8")
    assert find_edits("red_hair", str(tmp_path), "toonfaces") == [str(mine / FILE)]
    assert find_edits("red_hair", str(tmp_path), "other") == [str(other / FILE)]
    assert find_edits("red_hair", str(tmp_path), "nowhere") == [str(other / FILE)]


def test_the_quick_version_is_meant_before_settings_of_ones_own(learned, tmp_path):
    quick = learned(1, *QUICK)
    learned(2, *QUICK, "method.lr=0.1")
    assert meant(tmp_path) == str(quick / FILE)


def test_where_only_variants_were_learned_their_folder_is_named(learned, tmp_path):
    folder = learned(1, "experiment=toonfaces_red_hair", "preset=shared")
    with pytest.raises(DclipError, match="no finished run of the experiment itself") as refusal:
        find_edits("red_hair", str(tmp_path))
    assert f"preset=shared); name one by its folder: edit.adapter={folder}" in str(refusal.value)


def learning_presets():
    """Presets that learn: all but those of task=sample."""
    files = sorted((CONF / "preset").glob("*.yaml"))
    return [file.stem for file in files if "override /task: sample" not in file.read_text("utf-8")]


@pytest.mark.parametrize("name", learning_presets())
def test_every_preset_but_quick_makes_a_variant(name):
    cfg = configure("experiment=toonfaces_red_hair", f"preset={name}")
    assert bool(cfg.variant) == (name != "quick")


def test_a_run_keeps_the_words_of_its_command(learned):
    folder = learned(1, *QUICK)
    assert Run(folder).command == list(QUICK)
    assert standing(Run(folder)).name == "preset"
    assert standing(Run(folder.parent / "copied")).name == "own"


@pytest.fixture
def finished(tmp_path, tiny, nets):
    """An output folder with a finished run of red hair, whose edit's file is real."""
    folder = tmp_path / "finetune_red_hair" / "2026-01-01_00-00-00_aaaaaaaa"
    write_edit(folder, tiny, nets["model64"], "red_hair", 0.3)
    write_json(folder / "status.json", {"status": "finished"})
    return folder


def applied(tiny, output, *more):
    few = words({**tiny, "output": output, "degrees": "[]", "dataset.test": 1}, task="edit")
    return run(*few, *more)


def test_a_run_that_applied_an_edit_stands_for_it(tiny, finished, tmp_path, caplog):
    first = applied(tiny, tmp_path, "edit.adapter=red_hair")
    assert (tmp_path / "latest").resolve() == first.resolve()
    second = applied(tiny, tmp_path, f"edit.adapter={tmp_path / 'latest'}", "gamma=0.5")
    assert Run(second).setting("edit.adapter") == str(finished / FILE)
    [card] = read_json(second / "status.json")["edits"]
    assert (card["file"], card["target"]) == (str(finished / FILE), "person with red hair")
    said = [one.getMessage() for one in caplog.records if one.getMessage().startswith("edit red")]
    assert said == [described(card)] * 2
    for part in ("person → person with red hair", "learned 20", "experiment=", str(finished)):
        assert part in said[0]
    assert described(card) in (second / "report.html").read_text("utf-8").replace("&#39;", "'")


def test_the_name_of_a_run_is_answered_with_its_folder(tmp_path):
    folder = tmp_path / "debug" / "2026-01-01_00-00-00_aaaaaaaa"
    folder.mkdir(parents=True)
    (folder / FILE).touch()
    with pytest.raises(DclipError, match=f"edit.adapter={folder}"):
        find_edits("debug", str(tmp_path))


def test_an_edit_of_another_known_checkpoint_is_refused_by_its_header():
    check_base_name("edit", {"base": "toonfaces"}, "toonfaces")
    check_base_name("edit", {"base": "my_own"}, "celeba_hq")
    with pytest.raises(DclipError, match="edit was learned from toonfaces, not celeba_hq; choose"):
        check_base_name("edit", {"base": "toonfaces"}, "celeba_hq")


def test_an_edit_mixed_with_itself_is_said_once(finished, tmp_path, caplog):
    given = ("task=edit", f"output={tmp_path}", f"edit.adapter=[red_hair,{finished}]")
    for _ in range(2):
        configure(*given)
    assert caplog.text.count("twice: mixed with itself, an edit stays as it is") == 1


def test_a_run_without_any_edit_is_refused_by_its_task(tmp_path):
    folder = tmp_path / "reconstruct" / "2026-01-01_00-00-00_aaaaaaaa"
    write_json(folder / "status.json", {"status": "finished"})
    OmegaConf.save(OmegaConf.create(plain(configure("task=reconstruct"))), folder / "config.yaml")
    with pytest.raises(
        DclipError, match=r"is a run of task=reconstruct .finished., which has no edit"
    ):
        find_edits(str(folder))


def test_a_card_says_the_scores_that_matter(finished, tmp_path):
    saved = read_edit(str(finished))
    saved.header["scores"] = {"judge_success": 0.954, "mae": 0.1, "s_dir": 0.41, "id_absent": "no"}
    line = described(saved.card)
    assert "judge_success 0.95, s_dir 0.41" in line and "mae" not in line


def test_a_foreign_file_does_not_say_when_it_was_learned(tmp_path):
    file = tmp_path / "human_zombie_t601.pth"
    file.touch()
    card = SavedEdit(file, {"kind": "foreign edit", "edit": {"name": "zombie"}}).card
    assert described(card) == f"edit zombie: {file}"
