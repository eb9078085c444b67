import pickle

import pytest

from shardcam.engine import errors

MORE = {
    "JobFailed": (7,),
    "TooManyFailures": ({"failed": 1},),
    "InternalError": ("at sample 'a'", "Traceback ..."),
}
CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, BaseException)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_travels_between_processes(kind):
    error = kind("one line", *MORE.get(kind.__name__, ()))
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (kind, str(error), vars(error))
    assert str(back).startswith("one line")
