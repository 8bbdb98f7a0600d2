"""From a visitor's words to the command line of a run, and what is refused before it begins."""

import pytest

from dclip.config import Config
from dclip.errors import DclipError
from dclip.files import write_json
from dclip.pages.learn import Teacher, UnfinishedError, Wish
from dclip.pages.queue import Job, JobQueue
from helpers.runs import configure

GREY = Wish("person", " person  with grey hair ")


class NoQueue(JobQueue):
    """A queue that starts nothing."""

    def __init__(self, busy=()):
        self.busy = set(busy)

    def parents(self):
        return self.busy


@pytest.fixture
def teach(tmp_path):
    def teacher(*words, queue=None):
        words = [f"output={tmp_path}", *words]
        return Teacher(configure("task=demo", *words), ["task=demo", *words], queue or NoQueue())

    return teacher


@pytest.fixture
def begun(tmp_path):
    """Writes the folder of a run that ended in some state."""

    def write(name, state, *words):
        folder = tmp_path / f"finetune_{name}" / "2026-01-01_00-00-00_aaaaaaaa"
        folder.mkdir(parents=True)
        write_json(folder / "status.json", {"status": state, "command": list(words)})
        (folder / "config.yaml").write_text(
            "task: {name: finetune}\nedit: {source: person, target: person with grey hair}\n"
        )
        if state == "finished":
            (folder / "adapter.safetensors").touch()
        return folder

    return write


def test_a_wish_becomes_the_run_that_the_command_line_makes(teach, tmp_path):
    job = teach().job(GREY)
    assert isinstance(job.cfg, Config)
    assert "edit.target='person with grey hair'" in job.words
    edit = job.cfg.edit
    assert (edit.source, edit.target, edit.name) == ("person", "person with grey hair", "grey_hair")
    assert (job.cfg.dataset.train, job.cfg.method.lora.rank, edit.region_follow) == (16, 8, 6)
    assert job.parent == tmp_path / "finetune_grey_hair"
    assert not any(word.startswith("task=") for word in job.words)


def test_a_shape_is_learned_by_the_recipe_of_shapes(teach):
    job = teach().job(Wish("person", "person with a beard", "smiling person, zombie", "a shape"))
    assert "recipe=toonfaces_hspace" in job.words
    assert job.cfg.edit.keep == ["smiling person", "zombie"]


def test_what_the_page_was_started_with_goes_first(teach):
    words = ["dataset.train=4", "method.epochs=1", "gamma=0.5", "edit.region_low=0.4", "logger=csv"]
    job = teach(*words).job(GREY)
    assert (job.cfg.dataset.train, job.cfg.method.epochs, job.cfg.gamma) == (4, 1, 1.0)
    assert not any(word.startswith(("gamma", "edit.region")) for word in job.words)
    own = teach("recipe=toonfaces")
    assert own.kinds == []
    assert "recipe=toonfaces" in own.job(GREY).words


@pytest.mark.parametrize(
    "text", ['person\'s "hair", [grey]', "größer, älter", "{a: b}", "null", "a=b (c)"]
)
def test_any_text_arrives_as_it_was_typed(teach, text):
    wish = Wish("person", text, keep="it's", name="mine")
    edit = teach().job(wish).cfg.edit
    assert (edit.target, edit.keep) == (text, ["it's"])


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(" ", "person"), r"say what it is now"),
        (Wish("person", ""), r"say what it shall be"),
        (Wish("person", "Person "), r"both texts say 'Person', so nothing would change"),
        (Wish("person", "a ${oc.env:HOME}", name="x"), r"has \$\{ in it"),
        (Wish("person", "~/person", name="x"), r"begins with ~"),
        (Wish("person", "123"), r"'123' has no word in it"),
        (Wish("person", "a " * 150, name="x"), r"has 299 letters; the most is 200"),
        (Wish("person", "old person", name="../../etc"), r"name '../../etc' cannot be used"),
        (Wish("person", "old person", name="1st"), r"name '1st' cannot be used; give letters"),
        (Wish("person", "old person", name="x" * 31), r"at most 30"),
        (Wish("person", "person with blue hair", name="red_hair"), r"true pictures are known"),
    ],
)
def test_what_cannot_be_learned_is_said_in_one_line(teach, wish, message):
    with pytest.raises(DclipError, match=message) as caught:
        teach().job(wish)
    assert "\n" not in str(caught.value)


def test_names_are_made_of_the_new_words():
    assert GREY.called == "grey_hair"
    assert Wish("person", "person", name="My Own").called == "my_own"
    assert Wish("a person", "the person").called == "the_person"[:30]
    assert len(Wish("x", "very " * 20).called) <= 30


def test_words_whose_true_pictures_are_known_are_found_under_any_name(teach):
    teacher = teach()
    assert teacher.known_as(Wish("Person", "person with  grey hair", name="mine")) == "grey_hair"
    assert teacher.known_as(GREY) == teacher.known_as(Wish("person", "person with a halo")) == ""


def test_a_taken_name_is_refused(teach, begun, tmp_path):
    begun("grey_hair", "finished")
    with pytest.raises(DclipError, match=r"there is an edit grey_hair already"):
        teach().job(GREY)
    busy = NoQueue([tmp_path / "finetune_blue_hair"])
    with pytest.raises(DclipError, match=r"blue_hair is being learned at the moment"):
        teach(queue=busy).job(Wish("person", "person with blue hair"))


def test_a_stopped_run_is_resumed_by_its_own_command(teach, begun):
    words = teach().job(GREY).words
    begun("grey_hair", "stopped", *words)
    with pytest.raises(UnfinishedError, match=r"person → person with grey hair\): Resume"):
        teach().job(GREY)
    job = teach().resumed("grey_hair")
    assert list(job.words) == [*words, "resume=true"]
    assert job.cfg.resume
    with pytest.raises(DclipError, match="nothing of the name green_hair was begun"):
        teach().resumed("green_hair")


def test_a_failed_run_takes_no_name(teach, begun):
    begun("grey_hair", "failed")
    assert isinstance(teach().job(GREY), Job)


def test_unknown_words_are_said(teach):
    note = teach().note(Wish("person", "person with a halo"))
    assert "was never shown the word halo" in note
    assert teach().note(GREY) == ""
    assert teach("clip=openai_vit_b_32").note(Wish("person", "person with a halo")) == ""
