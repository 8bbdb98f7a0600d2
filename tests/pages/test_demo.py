"""The page of task=demo: what it does without a browser, and then in a real one."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from dclip import pipeline
from dclip.encode import generate
from dclip.errors import DclipError
from dclip.files import write_json
from dclip.pages import demo
from dclip.pages.demo_settings import Sliders
from dclip.prepare import needs
from helpers.browser import Page, open_browser
from helpers.networks import write_edit
from helpers.runs import ROOT, configure, words

GUARDED = """
import socket, sys
def home(host):
    return str(host).startswith(("127.", "localhost", "::1"))
def told(real, host_of):
    def call(*words, **more):
        host = host_of(words)
        if host is not None and not home(host):
            print("REACHED OUT", host, file=sys.stderr, flush=True)
            raise OSError("no network here")
        return real(*words, **more)
    return call
socket.socket.connect = told(socket.socket.connect, lambda w: w[1][0] if isinstance(w[1], tuple) else None)
socket.getaddrinfo = told(socket.getaddrinfo, lambda w: w[0])
from dclip.cli import main
sys.argv[0] = "run.py"
main()
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory, nets, tiny):
    """An output folder with two finished edits."""
    output = tmp_path_factory.mktemp("outputs")
    for name, bias, more in (("red_hair", 0.3, {}), ("smiling", -0.2, {})):
        folder = output / f"finetune_{name}" / "2026-01-01_00-00-00_aaaaaaaa"
        write_edit(folder, tiny, nets["model64"], name, bias, **more)
        write_json(folder / "status.json", {"status": "finished"})
    return output


@pytest.fixture(scope="module")
def settings(tiny, learned):
    return {**tiny, "output": learned, "degrees": "[0,1]"}


@pytest.fixture(scope="module")
def studio(settings):
    told = words(settings)
    return demo.Studio(configure("task=demo", *told), told)


def made_by_task_edit(settings, folder, images, **more):
    """The PNG that ``task=edit`` writes of one picture (or of its last variant)."""
    file = folder / f"{images.ids[0]}.png"
    demo.picture(images.pixels[0]).save(file)
    cfg = configure(
        *words({**settings, "output": folder}, task="edit", input=file, degrees="[]", **more)
    )
    return np.asarray(Image.open(max((pipeline.run(cfg) / "samples").glob("image_*.png"))))


# ---------------------------------------------------------------------------------------------------- without a browser


def test_it_finds_the_finished_edits_of_this_checkpoint_newest_first(studio, tiny, nets, tmp_path):
    runs = {
        "finetune_red_hair/2026-01-01_00-00-00_aaaaaaaa": ("finished", "model64"),
        "finetune_red_hair/2026-01-03_00-00-00_bbbbbbbb": ("finished", "model64"),
        "finetune_red_hair/2026-01-02_00-00-00_cccccccc": ("failed", "model64"),
        "finetune_red_hair/2026-01-04_00-00-00_dddddddd": ("finished", "learned64"),
    }
    for run, (status, net) in runs.items():
        write_edit(tmp_path / run, tiny, nets[net], "red_hair", 0.1)
        write_json(tmp_path / run / "status.json", {"status": status})
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "adapter.safetensors").write_bytes(b"cut off")
    found = demo.finished_edits(str(tmp_path), studio.model.digest)
    assert [path.split("/")[-2][-8:] for path in found] == ["bbbbbbbb", "aaaaaaaa"]
    labels = demo.labelled(found)
    assert list(labels) == ["red hair", "red hair (2026-01-01_00-00-00_aaaaaaaa)"]
    assert list(labels.values()) == found


def test_the_run_that_a_name_means_comes_first_and_variants_say_what_they_are(
    studio, tiny, nets, tmp_path
):
    command = ["experiment=toonfaces_red_hair"]
    runs = {
        "2026-01-01_00-00-00_a": {"command": command},
        "2026-01-02_00-00-00_b": {"command": [*command, "method.epochs=1"]},
        "2026-01-03_00-00-00_c": {"command": command, "variant": "shared"},
        "2026-01-04_00-00-00_d": {"command": command, "sweep": "2026-01-04_00-00-00"},
    }
    for run, said in runs.items():
        folder = tmp_path / "finetune_red_hair" / run
        write_edit(folder, tiny, nets["model64"], "red_hair", 0.1)
        write_json(folder / "status.json", {"status": "finished", **said})
    labels = demo.labelled(demo.finished_edits(str(tmp_path), studio.model.digest))
    assert list(labels) == [
        "red hair",
        "red hair (2026-01-02_00-00-00_b)",
        "red hair (a job of 2026-01-04_00-00-00)",
        "red hair (preset=shared)",
    ]
    assert "2026-01-01" in labels["red hair"]


def test_edits_that_are_given_are_the_ones_that_are_offered(
    settings, learned, nets, tiny, tmp_path
):
    told = words(settings, edit__adapter="smiling", dataset__test=1)
    only = demo.Studio(configure("task=demo", *told), told)
    assert list(only.edits()) == ["smiling"]
    with pytest.raises(DclipError, match=r"edit.adapter=beard is neither a file"):
        configure("task=demo", *words(settings, edit__adapter="beard"))


def test_an_edit_of_another_checkpoint_is_refused_at_the_start(settings, nets, learned):
    told = words(
        {**settings, "checkpoint.name": nets["learned64"]}, edit__adapter="smiling", dataset__test=1
    )
    with pytest.raises(DclipError, match="not from this checkpoint"):
        demo.Studio(configure("task=demo", *told), told)


def test_a_picture_is_the_one_that_task_edit_makes(studio, settings, tmp_path):
    image, chosen = studio.images.take([2]), list(studio.edits().values())
    outcome = studio.edit(image, chosen, Sliders(0.6, [0.5, 1], [0, 0.2]))
    expected = made_by_task_edit(
        settings,
        tmp_path,
        image,
        edit__adapter=f"[{','.join(chosen)}]",
        edit__regions="[none,{region: auto, region_low: 0.2, region_high: 0.5, "
        "region_follow: 6, region_colors: 0.9, region_prior: 0.5, region_gain: 1.2, region_tint: 0.75}]",
        mix__weights=f"[{0.5 / 1.5},{1 / 1.5}]",
        gamma=0.6 * 1.5,
    )
    assert np.array_equal(np.asarray(demo.picture(outcome.result[0])), expected)
    assert set(outcome.scores) >= {"s_dir", "id", "mae"}
    assert "kid" not in outcome.scores


def test_several_edits_are_whole_at_gamma_1_and_weights_of_0_change_nothing(studio):
    image, chosen = studio.images.take([2]), list(studio.edits().values())
    both = studio.settings(chosen, Sliders(1.0))
    assert (both.gamma, both.mix.weights) == (2.0, None)
    cfg = studio.settings(chosen, Sliders(1.0, [1.5, 0.5]))
    assert (cfg.gamma, cfg.mix.weights) == (2.0, [0.75, 0.25])
    nothing = studio.edit(image, chosen, Sliders(1.0, [0, 0], [0.3, 0.3]))
    assert nothing.result.equal(image.pixels)
    most = studio.settings(chosen, Sliders(2.0, [1.5, 1.5]))
    assert (most.gamma, most.mix.weights) == (6.0, None)  # task=edit takes 3 an edit
    with pytest.raises(
        DclipError, match=r"weight 2 is out of range; choose 0 \(without it\) to 1.5"
    ):
        studio.edit(image, chosen, Sliders(1.0, [2, 1]))
    # ratios that were told stay, and so does what gamma means
    studio.cfg.mix.weights, studio.cfg.gamma = [0.5, 0.5], 1.0
    try:
        told = studio.settings(chosen, Sliders(1.0, [1, 0.5]))
    finally:
        studio.cfg.mix.weights = None
    assert (told.gamma, told.mix.weights) == (1.0, [0.5, 0.5])


def test_variants_are_those_of_task_edit_too(studio, settings, tmp_path):
    image, adapter = studio.images.take([1]), studio.edits()["smiling"]
    outcome = studio.edit(image, [adapter], Sliders(), eta=1.0, variants=2)
    more = {"edit__adapter": adapter, "sampler__eta": 1, "variants": 2}
    expected = made_by_task_edit(settings, tmp_path, image, **more)
    assert np.array_equal(np.asarray(demo.picture(outcome.result[1])), expected)
    assert not np.array_equal(np.asarray(demo.picture(outcome.result[0])), expected)


@pytest.fixture
def walks(monkeypatch):
    """What the networks are asked for, by its name."""
    done = []
    real = generate.run_trajectory

    def counted(options, trajectory, ids, x, what):
        done.append(what)
        return real(options, trajectory, ids, x, what)

    for module in ("encode.generate", "encode.invert", "edits.confined"):
        monkeypatch.setattr(f"dclip.{module}.run_trajectory", counted)
    return done


def test_moving_gamma_neither_inverts_nor_makes_the_strip_again(studio, walks):
    image, chosen = studio.images.take([3]), [studio.edits()["red hair"]]
    first = studio.edit(image, chosen, Sliders(0.5))
    strip = studio.strip(image, chosen, Sliders(0.5))
    walks.clear()
    second = studio.edit(image, chosen, Sliders(1.0))
    assert studio.strip(image, chosen, Sliders(1.0)) is strip
    assert walks == []  # the strip had it already
    assert not first.result.equal(second.result)
    assert strip[1].sub(second.result[0]).abs().max() < 1e-4  # degrees=[0,1]


@pytest.fixture(scope="module")
def uneven(tiny, nets, tmp_path_factory):
    """Files of two edits that change some parts of a picture more than others, and refine nothing."""
    folder, files = tmp_path_factory.mktemp("uneven"), []
    for seed in (1, 2):
        words = {"lora": seed, "method__lora__rank": 2, "edit__region_colors": 0}
        run = write_edit(folder / str(seed), tiny, nets["model64"], "red_hair", **words)
        files.append(f"{run}/adapter.safetensors")
    return files


def test_moving_the_region_of_an_edit_asks_no_network(studio, uneven, walks):
    image, chosen = studio.images.take([3]), uneven[:1]
    assert studio.lows(chosen) == [0.14]
    learned = studio.edit(image, chosen, Sliders())
    same = studio.edit(image, chosen, Sliders(lows=[0.14]))
    walks.clear()
    larger = studio.edit(image, chosen, Sliders(lows=[0.05]))
    smaller = studio.edit(image, chosen, Sliders(lows=[0.9]))
    assert walks == []
    assert learned.result.equal(same.result)
    ordered = [outcome.regions[0].sum() for outcome in (smaller, learned, larger)]
    assert ordered[0] < ordered[1] < ordered[2]
    outside = (smaller.regions[0] == 0).expand(3, -1, -1)
    assert smaller.result[0][outside].equal(image.pixels[0][outside])
    everywhere = studio.edit(image, chosen, Sliders(lows=[0]))
    assert everywhere.regions == []


def test_moving_a_weight_or_a_region_of_several_edits_only_mixes_again(studio, uneven, walks):
    image, chosen = studio.images.take([0]), uneven
    first = studio.edit(image, chosen, Sliders(lows=[0.3, 0.3]))
    assert walks[-4:] == ["without the edits", "generating", "generating", "mixing"]
    walks.clear()
    second = studio.edit(image, chosen, Sliders(lows=[0.9, 0.3]))
    studio.edit(image, chosen, Sliders(weights=[1, 0.2], lows=[0.9, 0.3]))
    assert walks == ["mixing", "mixing"]
    assert len(first.regions) == len(second.regions) == 2
    assert first.regions[1].equal(second.regions[1])
    assert first.regions[0].sum() > second.regions[0].sum()
    studio.edit(image, chosen, Sliders(lows=[0.3, 0]))
    assert walks[2:] == ["mixing"]


def test_edits_in_one_region_are_mixed_anew_when_a_weight_moves(settings, uneven):
    told = words(settings, edit__region="auto", dataset__test=1)
    studio = demo.Studio(configure("task=demo", *told), told)
    image = studio.images.take([0])
    one = studio.edit(image, uneven, Sliders(weights=[1, 0.5])).result
    other = studio.edit(image, uneven, Sliders(weights=[0.5, 1])).result
    assert not other.equal(one)
    fresh = demo.Studio(studio.cfg, told)
    assert other.equal(fresh.edit(image, uneven, Sliders(weights=[0.5, 1])).result)


def test_an_edit_keeps_its_sliders_and_one_without_is_as_it_was_learned():
    page = pytest.importorskip("dclip.pages.demo_actions")
    rows = page.rows_for(["a", "b"], [])
    assert page.rows_for(["b", "c"], rows) == ["a", "b", "c", "", "", ""]
    full = page.rows_for(list("abcdef"), rows)
    assert page.rows_for(list("bcdefg"), full) == list("gbcdef")
    asked = page.asked(["b", "z"], rows, 1.0, 0.0, 2.0, *range(2 * page.MOST_EDITS))
    assert asked.sliders == Sliders(1.0, [1, 1.0], [7, None])
    assert page.asked(["b"], rows, 1.0, 0.0, 1, *range(12)).sliders == Sliders(1.0, [], [7])


def test_edits_in_turn_keep_what_they_made_alone(studio, uneven, walks, monkeypatch):
    monkeypatch.setattr(studio.cfg.mix, "in_turn", True)
    image, chosen = studio.images.take([0]), uneven
    first = studio.edit(image, chosen, Sliders(lows=[0.3, 0.3]))
    assert walks == ["degrees of change", "inverting pictures again", "degrees of change"]
    walks.clear()
    second = studio.edit(image, chosen, Sliders(lows=[0.3, 0.9]))
    assert walks == ["inverting pictures again"]
    assert first.regions[0].equal(second.regions[0])
    assert first.regions[1].sum() > second.regions[1].sum()
    everywhere = studio.edit(image, chosen, Sliders(lows=[0.3, 0]))
    assert everywhere.regions[0].equal(first.regions[0])
    assert bool((everywhere.regions[1] == 1).all())


def test_a_soup_has_one_region(studio, uneven, monkeypatch):
    monkeypatch.setattr(studio.cfg.mix, "soup", True)
    cfg = studio.settings(uneven, Sliders(1.0, [1, 0.5], [0.2, 0.9]))
    assert (cfg.edit.region, cfg.edit.region_low, cfg.edit.regions) == ("auto", 0.2, None)
    outcome = studio.edit(studio.images.take([0]), uneven, Sliders(1.0, [1, 0.5], [0.2, 0.9]))
    assert len(outcome.regions) == 1


def test_steps_are_those_of_the_edit_unless_told(settings, learned, tiny, nets, tmp_path):
    path = write_edit(
        tmp_path / "edit", tiny, nets["model64"], "beard", 0.1, sampler__s_gen=3, sampler__t0=300
    )
    told = [
        word for word in words(settings, dataset__test=1) if not word.startswith("sampler.s_gen")
    ]
    studio = demo.Studio(configure("task=demo", *told), told)
    cfg = studio.settings([path], Sliders())
    assert (cfg.sampler.t0, cfg.sampler.s_gen, cfg.edit.name) == (300, 3, "beard")
    studio.overrides += ["sampler.s_gen=2"]
    studio.cfg.sampler.s_gen = 2
    assert studio.settings([path], Sliders()).sampler.s_gen == 2


def test_what_cannot_be_is_said_in_one_line(studio, tmp_path, monkeypatch):
    image, chosen = studio.images.take([0]), list(studio.edits().values())
    with pytest.raises(
        DclipError,
        match=r"^gamma=2.5 is out of range; choose -1 \(the opposite\) to 2, 0 is the original$",
    ):
        studio.edit(image, chosen, Sliders(2.5))
    with pytest.raises(DclipError, match="no edit is chosen; choose one or more"):
        studio.edit(image, [], Sliders())
    with pytest.raises(DclipError, match="variants=2 would be the same picture"):
        studio.edit(image, chosen, Sliders(), variants=2)
    (tmp_path / "broken.png").write_bytes(b"this is no picture")
    with pytest.raises(
        DclipError,
        match=r"^upload: broken.png cannot be read as an image \(not an image\); give a PNG, JPEG or WebP",
    ):
        studio.upload(tmp_path / "broken.png")
    monkeypatch.setattr(studio, "edits", dict)
    with pytest.raises(DclipError, match="yet; open Learn an edit, or"):
        studio.edit(image, [], Sliders())


def test_the_name_of_an_upload_is_shown_as_text(studio, tmp_path):
    page = pytest.importorskip("dclip.pages.demo_actions")
    file = tmp_path / "<img src=x onerror=alert(1)>.png"
    demo.picture(studio.images.pixels[0]).save(file)
    for said in ("uploaded", "cannot be read as an image"):
        *_, note = page.Actions(studio).upload(str(file))
        assert said in note and "<img" not in note and "&lt;img src=x" in note
        file.write_bytes(b"this is no picture")


def test_a_page_that_cannot_be_opened_is_refused_before_any_network_is_loaded(
    settings, monkeypatch
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        cfg = configure("task=demo", *words(settings, task__port=other.getsockname()[1]))
        monkeypatch.setattr(needs, "find_spec", lambda name: object())
        with pytest.raises(
            DclipError,
            match=r"task.port=\d+ cannot be used \(Address already in use\); choose another port",
        ):
            needs.obtain([cfg])
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    with pytest.raises(
        DclipError,
        match=r"^task=demo needs Gradio, which is not installed: pip install 'dclip\[demo\]'",
    ):
        needs.obtain([cfg])
    open_to_all = configure("task=demo", *words(settings, task__host="0.0.0.0"))
    with pytest.raises(DclipError, match=r"task.host=0.0.0.0 lets other machines in; set a pass"):
        needs.check_page(open_to_all.task)
    monkeypatch.setenv("DCLIP_PASSWORD", "short")
    with pytest.raises(DclipError, match="has 5 letters; choose one of 8 or more"):
        needs.check_page(open_to_all.task)
    with pytest.raises(DclipError, match=r"task.port=70000 is no port"):
        configure("task=demo", *words(settings, task__port=70000))
    with pytest.raises(DclipError, match=r"gamma=2.5 is out of range for task=demo"):
        configure("task=demo", *words(settings, gamma=2.5))


def test_the_judge_says_what_changed():
    from dclip.data.toonfaces.images import class_images
    from dclip.models.checkpoints import load_judge

    judge = load_judge("toonfaces_judge")
    before, after = (class_images({"skin": skin}, 1).pixels[0] for skin in ("fair", "green"))
    assert demo.judged(judge, before, before) == {}
    assert demo.judged(judge, before, after)["skin"] == ("fair", "green")


# ---------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture
def browser(tmp_path):
    opened = open_browser(tmp_path / "profile")
    yield opened
    opened.quit()


@pytest.fixture
def second_browser(tmp_path):
    opened = open_browser(tmp_path / "second_profile")
    yield opened
    opened.quit()


@pytest.fixture
def outputs(learned, tmp_path):
    """The edits in a folder of this test alone, into which the page learns and draws."""
    return shutil.copytree(learned, tmp_path / "outputs")


@pytest.fixture
def served(settings, outputs, tmp_path):
    """Address of a page that a process of its own serves; afterwards it must have reached out to nobody."""
    own = {**settings, "output": outputs}
    told = words(own, task="demo", metric__judge="true", edit__adapter="[red_hair,smiling]")
    process = subprocess.Popen(
        [sys.executable, "-c", GUARDED, *told], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = []
    limit = threading.Timer(900, process.kill)
    limit.start()
    try:
        for line in process.stdout:
            said.append(line)
            if "the page is http" in line:
                break
        address = re.search(r"http://127\.0\.0\.1:\d+", said[-1] if said else "")
        assert address, "".join(said)
        reader = threading.Thread(target=lambda: said.extend(process.stdout), daemon=True)
        reader.start()
        yield address[0]
    finally:
        limit.cancel()
        process.terminate()
        process.wait(20)
    reader.join(10)
    assert "REACHED OUT" not in "".join(said), "".join(said)


def same(one, other):
    """Equal pictures, but for the rounding of other numbers of threads."""
    return np.abs(one.astype(int) - other.astype(int)).max() <= 1


def learn_nothing(page):
    """On a phone: every part fits, and what cannot be learned is said."""
    page.as_on_a_phone()
    for part in ("Edit a picture", "Draw from words", "Learn an edit"):
        page.tab(part)
        page.fits()
    page.click("#learn")
    page.says("say what it shall be", "#learn_note")


def learn_one_more(page):
    """What is learned is offered, used, and on disk."""
    page.fill("target", "person with <b>grey</b> hair")
    page.fill("name", "My grey")
    page.press_again("#learn", "#learn_note")
    page.says("the name of the edit is my_grey", "#learn_note")
    page.wait.until(lambda _: page.sources("epochs"))
    page.says("finished", "#work")
    page.says("is in the list now", "#result")
    page.says("person → person with <b>grey</b> hair", "#cards")
    page.fits()
    page.click("#use")
    chosen = "#edits label:has(input:checked)"
    page.wait.until(lambda _: page.text(chosen).strip() == "my grey")
    page.press()
    page.says("gamma 1, made in")
    page.fits()


def ask_for_two(page):
    """Nothing cannot be drawn; two samples from words can."""
    from selenium.webdriver.common.keys import Keys

    page.tab("Draw from words")
    page.click("#draw")
    page.says("say what to draw, such as", "#draw_note")
    page.fill("draw_text", "a person with a beard")
    page.one("#draw_count input[type=range]").send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    page.press_again("#draw", "#draw_note")
    page.says("drawing 2 samples of a person with a beard", "#draw_note")


def see_two(page, outputs):
    """The samples and their film on the page are those on disk."""
    page.says("finished", "#draw_work")
    page.says("say what to draw", "#draw_note")
    page.wait.until(lambda _: len(page.sources("samples")) == 2 and page.sources("film"))
    shown = [page.picture("samples", 0), page.picture("samples", 1), page.picture("film")]
    [run] = (outputs / "drawn").glob("*_*")
    paths = [*sorted((run / "samples").glob("image_*.png")), run / "samples" / "film.png"]
    drawn = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    assert len(drawn) == 3 and not np.array_equal(drawn[0], drawn[1])
    assert all(map(np.array_equal, shown, drawn))


def test_the_page_in_a_browser(browser, served, settings, studio, tmp_path):
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, served)
    faces = page.wait.until(lambda _: len(found := page.all("#faces button img")) == 4 and found)
    faces[2].click()
    page.says(f"picture {studio.images.ids[2]}")
    boxes = page.wait.until(
        lambda _: len(found := page.all("#edits input[type=checkbox]")) == 2 and found
    )
    assert [box.is_selected() for box in boxes] == [True, False]
    boxes[1].click()
    page.press()
    page.says("gamma 1, made in")
    whole = page.after()
    adapters = {"edit__adapter": f"[{','.join(studio.edits().values())}]"}
    image = studio.images.take([2])
    assert np.array_equal(page.picture("compare"), np.asarray(demo.picture(image.pixels[0])))
    slider = page.one("#gamma input[type=range]")
    slider.send_keys(*[Keys.ARROW_RIGHT] * 10)
    page.press()
    page.says("gamma 1.5, made in")
    more = page.after()
    assert not np.array_equal(whole, more)
    # each of two edits is one and a half times what it is alone
    assert same(more, made_by_task_edit(settings, tmp_path, image, gamma=3, **adapters))
    page.wait.until(lambda _: len(page.all("#strip img")) == len(page.all("#each img")) == 2)
    assert page.picture("where").shape == (64, 64, 3)

    page.one("#weight1 input[type=range]").send_keys(*[Keys.ARROW_LEFT] * 10)
    page.one("#region0 input[type=range]").send_keys(Keys.HOME)
    page.press()
    page.says("red hair 1, smiling 0.5")
    files = [studio.edits()[label] for label in ("red hair", "smiling")]
    sliders = Sliders(1.5, [1, 0.5], [0, studio.lows(files)[1]])
    expected = demo.picture(studio.edit(image, files, sliders).result[0])
    assert same(page.after(), np.asarray(expected))
    assert "s_dir" in page.text("#scores")
    assert "The judge, which no loss uses, sees" in page.text("#scores")
    page.drag("#compare .icon-wrap", -100)
    share = re.search(r"inset\(.* ([0-9.]+)%\)", page.one("#compare .fixed").get_attribute("style"))
    assert 0 < float(share[1]) < 40  # the line was in the middle

    Image.fromarray(whole).resize((90, 70)).save(tmp_path / "mine.png")
    (tmp_path / "broken.png").write_bytes(b"this is no picture")
    upload = page.one("input[type=file]")
    before = page.sources("compare")
    upload.send_keys(str(tmp_path / "mine.png"))
    page.says("uploaded mine.png")
    assert page.sources("compare") != before
    page.press()
    page.says("gamma")
    assert "Download (90 x 70)" in page.text("#download")
    with Image.open(page.download("#download", tmp_path / "downloads")) as saved:
        assert saved.size == (90, 70)
    page.one("input[type=file]").send_keys(str(tmp_path / "broken.png"))
    page.says("broken.png cannot be read as an image (not an image); give a PNG, JPEG or WebP file")
    for box in page.all("#edits input[type=checkbox]"):
        box.click()
    page.wait.until(lambda _: not page.all("#region0 input"))  # the button has moved up
    page.one("#button").click()
    page.says("no edit is chosen; choose one or more")
    learn_nothing(page)
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert loaded
    assert all(name.startswith((served, "data:", "blob:")) for name in loaded), loaded


@pytest.mark.slow
def test_an_edit_is_learned_on_a_phone(browser, served, outputs):
    page = Page(browser, served)
    page.wait.until(lambda _: len(page.all("#edits input")) == 2)
    learn_nothing(page)
    learn_one_more(page)
    ask_for_two(page)
    see_two(page, outputs)
    page.fits()


def value(page, box):
    return page.one(f"#{box} :is(textarea, input)").get_attribute("value")


@pytest.mark.slow
def test_a_page_that_is_loaded_again_has_its_form_and_its_lesson(browser, served):
    from selenium.webdriver.common.keys import Keys

    page = Page(browser, served)
    page.wait.until(lambda _: len(page.all("#edits input")) == 2)
    page.all("#edits input")[1].click()
    for slider, key in (("weight1", Keys.HOME), ("gamma", Keys.END)):
        page.one(f"#{slider} input[type=range]").send_keys(key)
    page.tab("Draw from words")
    page.fill("draw_text", "a person with a beard")
    page.tab("Learn an edit")
    page.fill("target", "person with <b>grey</b> hair")
    page.fill("name", "My grey")
    page.click("#learn")
    page.says("learning my_grey", "#work")

    browser.refresh()
    page.wait.until(lambda _: (found := page.all("#stop")) and found[0].is_displayed())
    page.says("learning my_grey", "#work")
    assert value(page, "target") == "person with <b>grey</b> hair"
    assert value(page, "name") == "My grey"
    page.click("#stop")
    page.says("stopped", "#work")
    page.tab("Draw from words")
    assert value(page, "draw_text") == "a person with a beard"
    page.tab("Edit a picture")
    page.wait.until(lambda _: page.text("#weight1").startswith("smiling: weight"))
    assert len(page.all("#edits input:checked")) == 2
    assert (value(page, "weight1"), value(page, "gamma")) == ("0", "2")
    page.tab("Learn an edit")
    page.click("#resume")
    page.says("going on with my_grey", "#learn_note")
    page.says("is in the list now", "#result")


def choose_alone(page, number, names):
    """Of two edits choose one."""
    boxes = page.wait.until(
        lambda _: len(found := page.all("#edits input[type=checkbox]")) == len(names) and found
    )
    for k, box in enumerate(boxes):
        if box.is_selected() != (k == number):
            box.click()
    chosen = "#edits label:has(input:checked)"
    page.wait.until(lambda _: page.text(chosen).strip() == names[number])


@pytest.mark.slow
def test_two_browsers_at_once(served, browser, second_browser, outputs, studio):
    """One learns while the other waits and draws; neither sees the pictures or the run of the other."""
    one, two = Page(browser, served), Page(second_browser, served)
    names = ["red hair", "smiling"]
    for number, page in enumerate((one, two)):
        faces = page.wait.until(
            lambda _, page=page: len(found := page.all("#faces button img")) == 4 and found
        )
        faces[number + 1].click()
        page.says(f"picture {studio.images.ids[number + 1]}")
        choose_alone(page, number, names)
    one.click("#button")
    two.press()
    for number, page in enumerate((one, two)):
        page.says("gamma 1, made in")
        file = studio.edits()[names[number]]
        made = studio.edit(studio.images.take([number + 1]), [file], Sliders())
        assert same(page.after(), np.asarray(demo.picture(made.result[0])))

    one.tab("Learn an edit")
    one.fill("target", "person with grey hair")
    one.press_again("#learn", "#learn_note")
    one.says("the name of the edit is grey_hair", "#learn_note")
    ask_for_two(two)
    two.says("waiting, 1 run is before yours", "#draw_work")
    assert "grey" not in two.text("#draw_work")

    one.says("finished", "#work")
    assert "learning grey_hair" in one.text("#work")
    see_two(two, outputs)

    one.tab("Draw from words")
    assert "Here the samples will appear" in one.text("#draw_work")
    assert one.sources("samples") == []
    two.tab("Learn an edit")
    assert "Here you will see how far it is" in two.text("#work")
    for page, own in ((one, "grey hair"), (two, "smiling")):  # in both lists, chosen in one
        page.tab("Edit a picture")
        choices = page.wait.until(
            lambda _, page=page: len(found := page.all("#edits label")) == 3 and found
        )
        assert "grey hair" in [label.text.strip() for label in choices]
        chosen = page.all("#edits label:has(input:checked)")
        assert [label.text.strip() for label in chosen] == [own]
    two.fits()
