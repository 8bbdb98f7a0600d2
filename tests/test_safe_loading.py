"""No file that dclip reads can run code."""

import ast

import pytest

from helpers.runs import ROOT

SOURCES = sorted((ROOT / "dclip").rglob("*.py"))
RUNS_CODE = {
    "pickle.load", "pickle.loads", "torch.jit.load", "joblib.load", "dill.load", "dill.loads",
    "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle", "os.system", "os.popen", "eval", "exec",
}  # fmt: skip


def calls(path):
    """(name, keywords, line) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: k.value for k in node.keywords}, node.lineno


def true(value):
    return isinstance(value, ast.Constant) and value.value is True


def unsafe(name, told):
    """Whether a call may run what it reads."""
    if name == "torch.load":
        return not true(told.get("weights_only"))
    if name.endswith(".fit"):  # Lightning reads a checkpoint to resume from
        return "ckpt_path" in told and not true(told.get("weights_only"))
    return name in RUNS_CODE or "allow_pickle" in told or true(told.get("shell"))


def test_nothing_is_read_in_a_way_that_runs_code():
    found = []
    for path in SOURCES:
        for name, told, line in calls(path):
            if unsafe(name, told):
                found.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "trainer.fit(m, ckpt_path=x)",
        "np.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "pickle.load(x)",
    ],
)
def test_the_test_above_can_fail(tmp_path, line):
    path = tmp_path / "a.py"
    path.write_text(line)
    [(name, told, _)] = calls(path)
    assert unsafe(name, told)
