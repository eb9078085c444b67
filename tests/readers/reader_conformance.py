"""What every reader must do; each reader's test calls these with a reader of its own."""


def check_listing(reader, count):
    """The same samples in the same order each time, with unique keys and running indices."""
    listing = list(reader.samples())
    assert list(reader.samples()) == listing
    assert [sample.index for sample in listing] == list(range(count))
    assert len({sample.key for sample in listing}) == count
    return listing


def check_content(reader, expected):
    """Each key's bytes are what was put in."""
    found = {sample.key: reader.read(sample) for sample in reader.samples()}
    assert found == expected
