"""``make steady``: its plan meets every condition, and a changed result is seen."""

from itertools import product
from xml.etree import ElementTree

from . import steady

ORDERS, WORKERS = [1, 2, 3, 4, 5], [1, 2, 4]


def test_the_plan_has_every_order_with_every_number_of_workers_and_all_places_and_loads():
    plan = steady.planned(ORDERS, WORKERS, [*steady.PLACES], [*steady.LOADS], every=False)
    assert [(c.order, c.workers) for c in plan] == [*product(ORDERS, WORKERS)]
    pairs = {(c.place, c.load) for c in plan}
    assert pairs == {*product(steady.PLACES, steady.LOADS)}
    assert {(c.workers, c.place) for c in plan} == {*product(WORKERS, steady.PLACES)}
    every = steady.planned(ORDERS, WORKERS, [*steady.PLACES], [*steady.LOADS], every=True)
    assert len({*every}) == 5 * 3 * 3 * 2


def test_what_became_of_a_test_is_read_from_junit():
    kinds = {
        "<testcase/>": "passed",
        "<testcase><failure/></testcase>": "failure",
        "<testcase><error/></testcase>": "error",
        "<testcase><skipped type='pytest.skip'/></testcase>": "skipped",
        "<testcase><skipped type='pytest.xfail'/></testcase>": "xfailed",
    }
    for text, expected in kinds.items():
        assert steady.outcome(ElementTree.fromstring(text)) == expected


def test_names_and_results_are_compared_and_not_counts():
    first = {"a": "passed", "b": "failure", "c": "passed"}
    other = {"a": "failure", "b": "passed", "d": "passed"}
    assert steady.differences(first, first) == {}
    assert steady.differences(first, other) == {
        "a": ("passed", "failure"),
        "b": ("failure", "passed"),
        "c": ("passed", "absent"),
        "d": ("absent", "passed"),
    }
