"""Errors of the library name keywords, where those of the command line name options."""

import pytest

from shardcam.engine.errors import ConfigError, TooManyFailures
from shardcam.engine.run.python_words import names_keywords

WORDS = {
    "--batch-size 32: too large; a smaller --image-size may do": "batch_size 32: too large; a "
    "smaller image_size may do",
    "run: measured in another way; --replace measures anew": "run: measured in another way; "
    "replace=True measures anew",
    "evaluate --replace measures anew": "evaluate(..., replace=True) measures anew",
    "the same images (extract --target from:RUN)": "the same images (extract, target from:RUN)",
    "give it; --retry-unreadable tries again": "give it; retry=True tries again",
    "--metod: unknown option": "metod: unknown option",
    "folders need --label-from-folder": "folders need label_from_folder=True",
    "run; shardcam verify --repair --limit": "run; shardcam verify --repair --limit",
    "pip install --no-deps x, not --params": "pip install --no-deps x, not params",
    "an archive without --sparse": "an archive without --sparse",
    "a--limit b": "a--limit b",
}


@pytest.mark.parametrize("text", WORDS)
def test_options_become_keywords(text):
    @names_keywords
    def evaluate(replace: bool = False, retry: bool = False) -> None:
        raise ConfigError(text)

    with pytest.raises(ConfigError) as caught:
        evaluate()
    assert str(caught.value) == WORDS[text]


def test_what_else_an_error_holds_stays():
    @names_keywords
    def extract() -> None:
        raise TooManyFailures("more than --max-failed 0", "report")

    with pytest.raises(TooManyFailures, match=r"^more than max_failed 0$") as caught:
        extract()
    assert caught.value.report == caught.value.args[1] == "report"
