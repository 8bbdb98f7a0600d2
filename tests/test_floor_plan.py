"""The floor plan of dclip/: what may import what (``house.FLOORS``), no circles, few entries."""

import pytest

import house


@pytest.fixture(scope="module")
def graph():
    return house.import_graph(house.parse())


@pytest.fixture(scope="module")
def figures():
    return house.figures()


def test_imports_run_down(graph):
    assert house.upward(graph) == ["dclip -> dclip.api"]  # the package's own face is lazy


def test_there_is_no_import_circle(graph):
    assert house.circles(graph) == []


def test_the_top_is_seen_at_a_glance():
    assert len(house.entries()) <= house.LIMITS["entries at the top"]
    assert set(house.entries()) <= set(house.FLOORS.split())


@pytest.mark.parametrize("name", house.LIMITS)
def test_a_line_says_one_thing(name, figures):
    assert figures[name] <= house.LIMITS[name]


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}, [["b", "c"]]),
    ],
)
def test_circles_are_found(graph, expected):
    assert house.circles(graph) == expected


def test_an_import_that_runs_up_is_named_with_its_module():
    graph = {"dclip.config.root": {"dclip.errors"}, "dclip.errors": {"dclip.config.root"}}
    assert house.upward(graph) == ["dclip.errors -> dclip.config.root"]


def test_lines_are_counted_by_what_they_say():
    counted = house.Density()
    counted.add("module", "def f(x):\n    return [a for a in x] if x else None\n" + "#" * 101)
    assert (counted.lines, counted.long_lines) == (3, 1)
    assert (counted.comprehensions, counted.conditionals) == (1, 1)
    assert counted.functions == {"module:f": 2}
