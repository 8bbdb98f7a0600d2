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
        "preset=",
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
        (
            "preset=[quick,shared,chain]",
            ["quick chooses method=gpu_efficient, and chain method=chain; give one of them"],
        ),
        ("preset=[lora,onestp]", ["preset=onestp does not exist; did you mean onestep?"]),
        ("sampler.s_gn=5", ["did you mean sampler.s_gen?", "s_for", "t0", "eta"]),
        ("sampler.to=500", ["there is no setting sampler.to", "Below sampler", "t0"]),
        ("sampler.t0.x=500", ["sampler.t0"]),
        ("task.count=5", ["there is no setting task.count", "this task has no settings"]),
        ("gama=0.5", ["did you mean gamma?", "seed"]),
        ("guidence=none", ["did you mean guidance?"]),
        ("dataset.only_aplicable=true", ["did you mean dataset.only_applicable?"]),
        ("edit.region=Auto", ["edit.region=Auto is no picture; did you mean auto?", "quantile"]),
        ("loss.templates=Imagenet79", ["did you mean imagenet79? Choose none, a, imagenet79"]),
        ("sampler.grid=Uniform", ["sampler.grid=Uniform does not exist; did you mean uniform?"]),
        ("dataset=7", ["dataset=7 does not exist; choose", "toonfaces"]),
    ],
)
def test_a_typo_is_answered_with_the_choices(word, expected):
    message = refusal(word)
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gamma=lots", "gamma=lots is not a number; give one, such as gamma=1.0"),
        ("gamma=[1,2]", "gamma=[1,2] is not a number; give one, such as gamma=1.0; of several"),
        ("edit.keep=[a,b", "edit.keep='[a,b': a ] is missing at its end"),
        ("gamma=null", "gamma=null: nothing is not a value here; leave gamma out for its default"),
        ("seed=1.5", "seed=1.5 is not a whole number; give one, such as seed=0"),
        ("trainer.batch=big", "trainer.batch=big is not a whole number"),
        ("plan=maybe", "plan=maybe is neither true nor false; give one, such as plan=false"),
        ("degrees=1", "degrees=1 is not a list; write degrees=[1]"),
        ("degrees=[1,b]", "degrees=[1,b] (b in it) is not a number"),
        ("sampler.grid=[a]", "sampler.grid=[a] is not one of its choices; give one, such as"),
        ("method.lora=4", "method.lora is a group of settings; set one of method.lora.rank"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_our_words(word, said):
    message = refusal(word)
    assert said in message
    assert not any(hydras in message for hydras in ("Value '", "Optional", "ListConfig", "Float"))


@pytest.mark.parametrize(
    "word", ["+x=1", "++sampler.t0=400", "+sampler.more=1", "~edit", "~sampler.eta"]
)
def test_adding_and_deleting_settings_is_refused(word):
    assert word in refusal(word)
    assert "not supported" in refusal(word)


@pytest.mark.parametrize("word", ["sampler.t0", "=5", "sampler.t0=[", "sampler.t0=300,400"])
def test_a_word_that_is_no_setting_is_refused_in_one_line(word):
    refusal(word)


def test_a_word_without_a_value_is_no_setting():
    assert refusal("foo").startswith("foo is no setting; write NAME=VALUE, with spaces in it as")
    assert refusal("demo") == "demo is no setting; did you mean task=demo?"


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
