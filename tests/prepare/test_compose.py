import pytest

from dclip.cli import command as cli
from dclip.errors import DclipError
from helpers.runs import configure, refusal


@pytest.mark.parametrize(
    "word",
    [
        "edit=null",
        "task=null",
        "dataset=null",
        "method=null",
        "sampler=null",
        "loss=null",
        "trainer=null",
        "sampler.t0=null",
    ],
)
def test_nothing_is_not_a_choice(word):
    assert word.split("=")[0].split(".")[-1] in refusal(word)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sampler=dim", ["sampler=dim does not exist", "did you mean ddim?", "ddpm"]),
        ("edit=redhair", ["did you mean red_hair?", "zombie"]),
        ("experiment=toonfaces_red_hiar", ["did you mean toonfaces_red_hair?", "toonfaces_zombie"]),
        ("task=finetun", ["did you mean finetune?", "reconstruct"]),
        ("metric=nothing", ["default", "none"]),
        ("dataset=celeba", ["folder", "toonfaces"]),
        (
            "experiment=objective_chain",
            ["is gone: type experiment=toonfaces_red_hair preset=chain"],
        ),
        (
            "experiment=objective_onestep_lora",
            ["experiment=toonfaces_red_hair 'preset=[onestep_invert,lora]'"],
        ),
        ("preset=fixed", ["preset=fixed is gone: leave it out"]),
        ("preset=[lora,fixed]", ["preset=fixed is gone: leave it out"]),
        ("preset=[lora,onestp]", ["preset=onestp does not exist; did you mean onestep?"]),
        ("sampler.s_gn=5", ["did you mean sampler.s_gen?", "s_for", "t0", "eta"]),
        ("sampler.to=500", ["there is no setting sampler.to", "Below sampler", "t0"]),
        ("sampler.t0.x=500", ["sampler.t0"]),
        ("task.count=5", ["there is no setting task.count", "this task has no settings"]),
        ("gama=0.5", ["did you mean gamma?", "seed"]),
        ("guidence=none", ["did you mean guidance?"]),
        ("dataset.only_aplicable=true", ["did you mean dataset.only_applicable?"]),
    ],
)
def test_a_typo_is_answered_with_the_choices(word, expected):
    message = refusal(word)
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    "word", ["+x=1", "++sampler.t0=400", "+sampler.more=1", "~edit", "~sampler.eta"]
)
def test_adding_and_deleting_settings_is_refused(word):
    assert word in refusal(word)
    assert "not supported" in refusal(word)


@pytest.mark.parametrize("word", ["sampler.t0", "=5", "sampler.t0=[", "sampler.t0=300,400"])
def test_a_word_that_is_no_setting_is_refused_in_one_line(word):
    refusal(word)


def test_a_sweep_is_checked_job_by_job_before_any_starts():
    cli.precheck(["-m", "edit=red_hair,zombie", "sampler.t0=300,400"])
    with pytest.raises(DclipError, match=r"sampler.t0=1000"):
        cli.precheck(["-m", "edit=red_hair,zombie", "sampler.t0=300,1000"])
    with pytest.raises(DclipError, match="zombi does not exist"):
        cli.precheck(["--multirun", "edit=red_hair,zombi"])


def test_a_setting_that_only_a_recipe_sets_is_answered_with_the_recipe():
    with pytest.raises(DclipError) as caught:
        configure("experiment=toonfaces_red_hair", "method=asyrp")
    said = str(caught.value)
    assert said.startswith("recipe=toonfaces_color sets method.lora; method=chain has it.")
    assert "leave method=asyrp out, or choose another recipe=" in said
    assert "\n" not in said
