import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kzoo.data.faults import DataWarning
from kzoo.training.checkpoints import Checkpoints, DamagedCheckpoint, load, whole_or_not

ARRAYS = {"model/0000": np.arange(24, dtype=np.float32).reshape(4, 6), "optimizer/0000": np.array(7)}
DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="="),
    hnp.unsigned_integer_dtypes(endianness="="),
    hnp.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="=", sizes=(64, 128)),
)


def steps(folder):
    return sorted(int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.npz"))


@given(st.lists(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_side=3)), max_size=4))
def test_arrays_come_back_bit_for_bit(tmp_path_factory, arrays):
    checkpoints = Checkpoints(tmp_path_factory.mktemp("checkpoints"))
    saved = {f"model/{number:04d}": array for number, array in enumerate(arrays)}
    path = checkpoints.save(12, saved, {"epochs": 3, "trained": False})
    got = checkpoints.latest()
    assert got.path == path
    assert got.facts == {"step": 12, "epochs": 3, "trained": False}
    assert list(got.arrays) == list(saved)
    for name, array in saved.items():
        assert (got.arrays[name].dtype, got.arrays[name].shape) == (array.dtype, array.shape)
        assert got.arrays[name].tobytes() == array.tobytes()  # NaN, too


def test_numpy_reads_them(tmp_path):
    path = Checkpoints(tmp_path).save(1, ARRAYS, {})
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["model/0000"], ARRAYS["model/0000"])


def test_the_last_few_are_kept_and_nothing_else_is_touched(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-best.npz").write_text("mine, too")
    (tmp_path / "step-00000003.partial.npz").write_text("half of one")
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 100, 123456789):
        checkpoints.save(step, ARRAYS, {})
    assert {path.name for path in tmp_path.iterdir()} == {
        "notes.txt",
        "step-best.npz",
        "step-00000100.npz",
        "step-123456789.npz",
    }
    assert checkpoints.latest().facts["step"] == 123456789


def test_without_any_there_is_none(tmp_path):
    assert Checkpoints(tmp_path / "nowhere").latest() is None
    assert Checkpoints(tmp_path).latest() is None


def test_a_changed_byte_anywhere_is_seen_or_changes_nothing(tmp_path):
    path = Checkpoints(tmp_path).save(2, ARRAYS, {"epochs": 1})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = 0
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        try:
            got = load(path)
        except DamagedCheckpoint as error:
            damaged += 1
            assert str(path) in str(error)
        else:  # as where the date of a member is
            assert got.facts == {"epochs": 1, "step": 2}, place
            assert list(got.arrays) == list(ARRAYS)
            assert all(got.arrays[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())
    assert damaged > len(whole) / 2


def test_a_file_cut_short_anywhere_is_seen(tmp_path):
    path = Checkpoints(tmp_path).save(2, ARRAYS, {})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match=r"step-00000002\.npz: a damaged checkpoint"):
            load(path)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_the_one_before_a_damaged_one_is_taken_and_what_is_saved_next_counts(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, ARRAYS, {})
    for step in (2, 3):
        damage(tmp_path / f"step-{step:08d}.npz")
    with pytest.warns(DataWarning, match="The one before it is taken") as told:
        assert checkpoints.latest().facts["step"] == 1
    assert [str(warning.message).partition(": ")[0][-12:] for warning in told] == [
        "00000003.npz",
        "00000002.npz",
    ]
    checkpoints.save(2, ARRAYS, {})  # would be the third behind a damaged one, and soon be taken away
    assert steps(tmp_path) == [1, 2]
    assert checkpoints.latest().facts["step"] == 2


def test_where_none_is_whole_nothing_begins_anew_by_itself(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    damage(checkpoints.save(1, ARRAYS, {}))
    with pytest.raises(DamagedCheckpoint, match=r"step-00000001\.npz.*None before it.*--no-resume"):
        checkpoints.latest()


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    large = {"model/0000": np.zeros(100_000)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # the file cannot grow beyond
        with pytest.raises(
            OSError, match=r"step-00000001\.npz: not saved: File too large; there is none before"
        ):
            checkpoints.save(1, large, {})
        checkpoints.save(2, ARRAYS, {})
        with pytest.raises(OSError, match=r"00000003\.npz: not saved: .*00000002\.npz is whole"):
            checkpoints.save(3, large, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002.npz"]
    assert checkpoints.latest().facts["step"] == 2


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(OSError, match=r"checkpoints/step-00000001\.npz: not saved: "):
        Checkpoints(tmp_path / "checkpoints").save(1, ARRAYS, {})
    assert (tmp_path / "checkpoints").read_text() == "a file"


def test_what_is_not_there_is_not_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "step-00000001.npz")


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_or_not(path) as partial:
        assert partial.suffix == ".keras"
        partial.write_text("half")
        raise KeyboardInterrupt
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
