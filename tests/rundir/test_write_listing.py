"""A listing on disk: as it was given, whole or refused, and made once."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardcam.engine.errors import RunDirectoryError, SourceError, StoreError
from shardcam.engine.rundir import listing as reading_listing
from shardcam.engine.rundir import write_listing as writing
from shardcam.engine.rundir.listing import Listing, facts_checksum, listing_digest
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import require_usable
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Note, Sample, Sizes, SourceNotes

ORIGIN = {"source": "/photographs", "limit": None}
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))
PATH = st.text(st.characters(blacklist_characters="\0"))  # with what is no UTF-8


def samples(count, label=-1):
    return [Sample(f"key {i}", i, label, f"/photographs/{i}", 10 + i) for i in range(count)]


def save(root, listed, origin=ORIGIN):
    with run_listing(RunDir(root), origin, lambda: iter(listed)) as listing:
        return listing


@pytest.mark.parametrize(
    ("version", "lacking"),
    [(1, ("notes", "classes", "label_range", "sizes")), (2, ("sizes",)), (3, ())],
)
def test_what_was_met_is_kept_and_a_listing_without_it_is_read(tmp_path, version, lacking):
    met = SourceNotes(
        (Note("skipped", "3 files"),), {"cat": 0, "dog": 1}, sizes=Sizes(2, (30, 40), 5000)
    )
    with run_listing(RunDir(tmp_path), ORIGIN, lambda: samples(5), lambda: met):
        pass
    path = RunDir(tmp_path).listing
    with ZipFile(path) as archive:
        listing = Listing(path)
        assert (listing.notes, listing.facts.classes) == (met.notes, met.classes)
        assert listing.sizes == met.sizes
        members = {name: archive.read(name) for name in archive.namelist()}
    facts = json.loads(members["listing.json"])
    for name in ("version", "checksum", *lacking):
        del facts[name]
    with ZipFile(path, "w") as archive:
        archive.writestr("000000.json", members["000000.json"])
        checksum = facts_checksum(facts, [info.CRC for info in archive.infolist()])
        stored = {"version": version, "checksum": checksum, **facts}
        archive.writestr("listing.json", json.dumps(stored))
    listing = Listing(path)
    assert len(listing) == 5
    assert (listing.notes == ()) == ("notes" in lacking)
    assert (listing.sizes is None) == ("sizes" in lacking)


@given(
    st.lists(
        st.tuples(TEXT, st.integers(-1, 2**31), PATH, st.integers(-1, 2**63)),
        unique_by=lambda row: row[0],
    ),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_what_is_read_is_what_was_listed(tmp_path_factory, rows, block):
    listed = [Sample(key, i, *rest) for i, (key, *rest) in enumerate(rows)]
    root = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "BLOCK", block)
        save(root, listed)
    listing = Listing(RunDir(root).listing)
    assert list(listing) == listed
    assert len(listing) == len(listed)
    assert listing.read(1, 5) == tuple(listed[1:5])
    assert listing.facts.labelled == sum(s.label != -1 for s in listed)
    assert listing.facts.key_bytes == max([len(s.key.encode()) for s in listed], default=0)
    stored = "".join(f"{s.key}\0{s.label}\0{s.size}\n" for s in listed)
    assert listing.facts.digest == hashlib.sha256(stored.encode()).hexdigest()
    assert listing_digest(listing) == listing.facts.digest


@pytest.mark.parametrize(
    "changed",
    [{"box": (0, 0, 31, 24)}, {"box": (0.1, 2.5, 7e9, 9.0)}, {"label": 2**31 - 1}, {"size": 7}],
)
def test_any_field_of_a_sample(tmp_path, changed):
    """What has a meaning of its own comes back as it was, and is in the digest."""
    listed = [replace(sample, **changed) for sample in samples(3)]
    assert list(save(tmp_path / "run", listed)) == listed
    digests = {save(tmp_path / str(i), x).facts.digest for i, x in enumerate([listed, samples(3)])}
    assert len(digests) == 2


def test_it_is_a_zip_file_that_other_tools_read(tmp_path):
    save(tmp_path, samples(3))
    with ZipFile(RunDir(tmp_path).listing) as archive:
        assert archive.namelist() == ["000000.json", "listing.json"]
        assert archive.read("000000.json").startswith(b'[["key 0",0,-1,"/photographs/0",10,null],')


def test_a_saved_listing_of_a_run_is_used_and_not_made_again(tmp_path):
    save(tmp_path, samples(5))
    RunDir(tmp_path).run_json.touch()
    with run_listing(RunDir(tmp_path), ORIGIN, lambda: pytest.fail("listed")) as listing:
        assert list(listing) == samples(5)


def test_the_listing_of_other_options_is_replaced(tmp_path):
    save(tmp_path, samples(5))
    other = {**ORIGIN, "limit": 3}
    assert len(save(tmp_path, samples(3), other)) == 3
    assert Listing(RunDir(tmp_path).listing).facts.origin == other


@pytest.mark.parametrize("named", [False, True])
def test_names_of_classes_matter_only_where_they_can_decide_labels(tmp_path, named):
    def listed(labels, number):
        origin = {**ORIGIN, "labels": labels}
        met = partial(SourceNotes, named=named)
        with run_listing(RunDir(tmp_path), origin, lambda: samples(number), met) as listing:
            return len(listing)

    RunDir(tmp_path).run_json.write_text("{}")
    assert listed(None, 1) == listed(None, 2) == 1
    assert listed("names.txt", 3) == (3 if named else 1)


def test_the_listing_of_a_run_that_never_began_is_made_again(tmp_path):
    """Killed before run.json was there, and the source may have changed since."""
    save(tmp_path, samples(5))
    assert list(save(tmp_path, samples(3))) == samples(3)


def test_what_is_refused_leaves_nothing(tmp_path):
    root = tmp_path / "runs" / "one"
    with (
        pytest.raises(ZeroDivisionError),
        run_listing(RunDir(root), ORIGIN, lambda: samples(5)) as listing,
    ):
        assert list(listing) == samples(5)
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()


def test_what_is_refused_leaves_a_listing_of_before(tmp_path):
    save(tmp_path, samples(5))
    before = RunDir(tmp_path).listing.read_bytes()
    with (
        pytest.raises(ZeroDivisionError),
        run_listing(RunDir(tmp_path), {"source": "other"}, lambda: samples(3)),
    ):
        raise ZeroDivisionError
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("after", [0, 3000])
def test_a_source_that_fails_leaves_nothing(tmp_path, after):
    def failing():
        yield from samples(after)
        raise SourceError("no more")

    with pytest.raises(SourceError, match="no more"):
        save(tmp_path / "run", failing())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("collide", [False, True])
def test_keys_that_come_twice_are_named(tmp_path, monkeypatch, collide):
    """And keys of one hash are not taken for one key."""
    if collide:
        monkeypatch.setattr(writing, "_key_hash", lambda key: len(key))
    listed = samples(5000)
    assert list(save(tmp_path / "good", listed)) == listed
    listed[4321] = replace(listed[4321], key="key 17")
    with pytest.raises(
        SourceError,
        match=r"^two samples have the key 'key 17': number 17 \(.*17.*\) and number 4321 "
        r"\(.*4321.*\); in a manifest a column `key` tells them apart$",
    ):
        save(tmp_path / "run", listed)
    assert not (tmp_path / "run").exists()


def refused(path):
    """The one line that is said of a file, be it when it is opened or when it is read."""
    with pytest.raises(RunDirectoryError) as caught:
        list(Listing(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture
def saved(tmp_path):
    save(tmp_path, samples(5000))
    return RunDir(tmp_path).listing


def test_a_missing_listing(tmp_path):
    message = refused(RunDir(tmp_path).listing)
    assert message.endswith("missing; the same extract command lists the source again")


def test_what_the_operating_system_refuses_is_not_called_damage(saved):
    saved.unlink()
    saved.symlink_to(saved.name)
    with pytest.raises(StoreError, match=r"listing\.zip: cannot be read now: Too many levels of"):
        Listing(saved)


def test_an_error_of_the_disk_in_a_block_is_not_called_damage(saved, monkeypatch):
    listing = Listing(saved)
    monkeypatch.setattr(ZipFile, "read", lambda *_: os.read(-1, 1))
    with pytest.raises(StoreError, match=r"^.*listing\.zip: cannot be read now: Bad file desc"):
        listing.read(0, 1)


@pytest.mark.parametrize("bug", [TypeError, AttributeError, IndexError])
def test_a_bug_is_not_called_damage(saved, monkeypatch, bug):
    def fail(value):
        raise bug

    monkeypatch.setattr(reading_listing, "_value", fail)
    with pytest.raises(bug):
        list(Listing(saved))


def test_a_truncated_listing(saved):
    whole = saved.read_bytes()
    for size in [0, 1, 21, 22, 100, len(whole) // 2, len(whole) - 1]:
        saved.write_bytes(whole[:size])
        assert "cannot be used (File is not a zip file); delete that file" in refused(saved)


def test_torn_listings(saved):
    """Zeros where a page never reached the disk, and single bytes that are others."""
    whole = bytearray(saved.read_bytes())
    for start in range(0, len(whole), 4096):
        torn = whole.copy()
        torn[start : start + 4096] = bytes(len(torn[start : start + 4096]))
        saved.write_bytes(torn)
        refused(saved)
    random = np.random.RandomState(0)
    for at in random.randint(0, len(whole), 300):
        torn = whole.copy()
        torn[at] ^= 1 << random.randint(8)
        saved.write_bytes(torn)
        try:
            listing = list(Listing(saved))
        except RunDirectoryError as error:
            assert "\n" not in str(error)
        else:  # a byte that says nothing, as the time of a member
            assert listing == samples(5000)


@pytest.mark.parametrize(
    ("member", "pattern", "new", "reason"),
    [
        ("000001.json", "key 2100", "key 3100", "edited"),
        ("000001.json", "(?s).*", None, "a block is missing"),
        ("listing.json", "5000", "4999", "edited"),
        ("listing.json", '"digest": "..', '"digest": "xx', "edited"),
        ("listing.json", '"version": 3', '"version": 4', "written by another version of shardcam"),
        ("listing.json", "(?s).*", "[]", ""),
        ("listing.json", '"block": 2048', '"block": null', "edited"),
        ("listing.json", '"samples": 5000', '"sample": 5000', "edited"),
        ("listing.json", "(?s).*", "{}", "version"),
        ("listing.json", "(?s).*", None, "listing.json"),
    ],
)
def test_edited_listings(saved, member, pattern, new, reason):
    """Unpacked, changed and packed again, so that every checksum of ZIP is right."""
    with ZipFile(saved) as archive:
        members = {name: archive.read(name).decode() for name in archive.namelist()}
    if new is None:
        del members[member]
    else:
        members[member] = re.sub(pattern, new, members[member], count=1)
    with ZipFile(saved, "w", ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with pytest.raises(RunDirectoryError, match=f"cannot be used .*{reason}.*; delete that file"):
        Listing(saved)


@pytest.mark.process
def test_full_disk(tmp_path):
    """Said in one line, and nothing is left."""
    script = f"""
        import resource, signal
        from tests.rundir.test_write_listing import save, samples
        from shardcam.engine.errors import DiskFull
        from pathlib import Path
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        try:
            save(Path({str(tmp_path / "run")!r}), samples(20000))
        except DiskFull as error:
            print("full", "make room and run the same command again" in str(error))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "full True\n", "")
    assert not (tmp_path / "run").exists()


@pytest.mark.process
def test_killed_while_listing(tmp_path):
    """What the dead process wrote is no listing, does not stop the next one, and is removed."""
    script = f"""
        import os, signal
        from tests.rundir.test_write_listing import save, samples
        from pathlib import Path
        def endless():
            yield from samples(10000)
            os.kill(os.getpid(), signal.SIGKILL)
        save(Path({str(tmp_path / "run")!r}), endless())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "run").iterdir()
    assert re.fullmatch(r"\.listing-.+\.zip", left.name)
    require_usable(RunDir(tmp_path / "run"))
    assert list(save(tmp_path / "run", samples(5))) == samples(5)
    assert RunDir(tmp_path / "run").clean_staging() == 1
    assert os.listdir(tmp_path / "run") == ["listing.zip"]
