"""Several threads decode: in order, not far ahead, and nothing is left behind."""

import threading
import time

import pytest

from shardcam.engine.pipeline.decoder_threads import Decoders, decoders


@pytest.fixture(params=[1, 3])
def some(request):
    return Decoders(request.param)


def test_results_come_in_order(some):
    def work(i):
        time.sleep(0.002 * (5 - i % 5))
        return 10 * i

    assert list(some.map(work, range(20))) == [10 * i for i in range(20)]
    assert list(some.map(work, [])) == []


def test_few_are_under_way(some):
    taken = []
    results = some.map(lambda i: i, (taken.append(i) or i for i in range(100)))
    most = 1 if some.threads == 1 else 2 * some.threads
    for i in range(100):
        assert next(results) == i
        assert len(taken) <= i + most
    assert taken == list(range(100))


def test_an_error_comes_in_its_turn(some):
    def work(i):
        if i == 3:
            raise ValueError("third")
        return i

    results = some.map(work, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="third"):
        next(results)
    assert list(some.map(str, range(3))) == ["0", "1", "2"]


def test_what_nobody_takes_is_not_worked_on():
    some, free, begun = Decoders(2), threading.Event(), []

    def work(i):
        begun.append(i)
        assert i == 0 or free.wait(10)

    results = some.map(work, range(10))
    next(results)
    results.close()
    free.set()
    assert list(some.map(str, [7])) == ["7"]
    assert set(begun) <= {0, 1, 2}


def test_items_are_taken_where_they_are_asked_for(some):
    here, asked, worked = threading.get_ident(), [], []

    def items():
        for i in range(9):
            asked.append(threading.get_ident())
            yield i

    list(some.map(lambda _: worked.append(threading.get_ident()), items()))
    assert set(asked) == {here}
    assert (set(worked) == {here}) == (some.threads == 1)


def test_a_process_has_one_set_of_threads():
    assert decoders(2) is decoders(2)
    assert decoders().threads == 1
