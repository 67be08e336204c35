"""What patches a step sees: where they lie, how often which, and that a step always sees the same."""

import os
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark_runs import run_quickly
from segstudy.errors import InputError
from segstudy.images.arrays import sample_foreground, sample_labelled
from segstudy.images.prepare import IGNORED
from segstudy.study import Slices
from segstudy.train.sampling import Sampler, TrainingCase

SHAPE = (20, 16, 12)


def case(number=0, shape=SHAPE, normalise=None):
    """Each voxel's value is its index, so that a patch tells where it comes from."""
    image = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(1, *shape)
    label = np.zeros(shape, np.uint8)
    label[2:8, 2:8, 2:8] = 1
    label[15, 12, 9] = 2
    foreground = {index: np.argwhere(label == index) for index in (1, 2)}
    return TrainingCase(
        "toy", f"case_{number}", image, label, foreground, (1.0, 1.0, 2.0), normalise
    )


def sampler(
    cases=None, patch=(8, 8, 6), source=None, planes=("axial",), batch=2, share=0.5, seed=0
):
    return Sampler(cases or [case()], patch, source or patch, planes, batch, share, seed)


def test_a_step_always_sees_the_same_and_another_something_else():
    one, again = sampler().batch(7), sampler().batch(7)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.labels, again.labels)
    assert not torch.equal(one.images, sampler().batch(8).images)
    assert not torch.equal(one.images, sampler(seed=1).batch(7).images)


def test_parts_of_a_batch_are_the_batch():
    cases = [case(number) for number in range(3)]
    whole = sampler(cases, batch=6)
    parts = [replace(whole, part=(number, 3)).batch(7) for number in range(3)]
    assert [len(part.images) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.batch(7).images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.batch(7).labels)
    names = [name for part in parts for name in part.cases]
    assert names == whole.cases_of(7) == list(whole.batch(7).cases)


def test_prefetched_batches_are_those_of_their_steps():
    drawn = list(sampler().batches(3, 7))
    assert len(drawn) == 4
    for step, batch in zip(range(3, 7), drawn, strict=True):
        assert torch.equal(batch.images, sampler().batch(step).images)
    assert list(sampler().batches(5, 5)) == []


def test_an_error_while_reading_ahead_reaches_the_training():
    def broken(array):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(sampler([case(normalise=broken)]).batches(0, 2))


def test_every_case_is_seen_once_before_any_is_seen_again():
    drawn = sampler([case(n) for n in range(5)], batch=1)
    names = [drawn.batch(step).cases[0] for step in range(20)]
    for turn in range(4):
        assert len(set(names[5 * turn : 5 * turn + 5])) == 5
    assert names[:5] != names[5:10] or names[:5] != names[10:15]


@pytest.mark.parametrize("share", [0.0, 0.33, 0.5, 1.0])
def test_the_share_of_foreground_patches_is_exact(share):
    """With structures in one corner of a large volume, only patches drawn for them hold them."""
    shape = (200, 200, 200)
    label = np.zeros(shape, np.uint8)
    label[5, 5, 5] = 1
    large = TrainingCase(
        "toy",
        "large",
        np.zeros((1, *shape), np.float32),
        label,
        {1: np.array([[5, 5, 5]])},
        (1.0,) * 3,
    )
    drawn = sampler([large], patch=(8, 8, 8), batch=1, share=share)
    hits = sum(bool(drawn.batch(step).labels.any()) for step in range(200))
    assert hits == pytest.approx(200 * share, abs=1)


def test_small_structures_are_seen_as_often_as_large_ones():
    drawn = sampler(patch=(4, 4, 4), batch=1, share=1.0)
    seen = Counter()
    for step in range(200):
        labels = drawn.batch(step).labels
        assert labels.any()
        seen.update(np.unique(labels[labels > 0]).tolist())
    assert 70 < seen[1] < 130
    assert 70 < seen[2] < 130


def test_random_patches_reach_every_voxel():
    drawn = sampler(patch=(17, 14, 10), batch=1, share=0.0)  # which has 36 places
    seen = set()
    for step in range(400):
        seen.update(drawn.batch(step).images.unique().tolist())
    assert seen == set(range(1, int(np.prod(SHAPE)) + 1))


def test_a_case_without_structures_gives_patches_anywhere():
    empty = case()
    empty = TrainingCase("toy", "empty", empty.image, np.zeros(SHAPE, np.uint8), {}, (1.0,) * 3)
    batch = sampler([empty], share=1.0).batch(0)
    assert not batch.labels.any()
    assert (batch.images > 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(-30, 30)] * 3),
    st.tuples(*[st.integers(1, 40)] * 3),
)
def test_a_cut_is_that_of_a_volume_padded_with_zeros(starts, size):
    found = case()
    padded = np.pad(found.image, [(0, 0), *[(80, 80)] * 3])
    labels = np.pad(found.label, 80)
    box = tuple(slice(80 + s, 80 + s + n) for s, n in zip(starts, size, strict=True))
    image, label = found.cut(starts, size)
    assert np.array_equal(image, padded[(slice(None), *box)])
    assert np.array_equal(label, labels[box])


def test_a_volume_smaller_than_the_patch_lies_in_its_middle():
    batch = sampler(patch=(24, 16, 13)).batch(0)
    inside = batch.images[0, 0].numpy() > 0
    assert np.array_equal(np.argwhere(inside).min(0), [2, 0, 0])
    assert np.array_equal(np.argwhere(inside).max(0), [21, 15, 11])


def test_a_larger_source_has_the_patch_in_its_middle():
    cut, wide = sampler().batch(3), sampler(source=(12, 10, 6)).batch(3)
    assert wide.images.shape == (2, 1, 12, 10, 6)
    assert torch.equal(wide.images[:, :, 2:10, 1:9, :], cut.images)
    assert torch.equal(wide.labels[:, 2:10, 1:9, :], cut.labels)


def test_slices_of_every_plane():
    drawn = sampler(patch=(8, 8), planes=("axial", "coronal", "sagittal"), batch=6)
    strides = {0: SHAPE[1] * SHAPE[2], 1: SHAPE[2], 2: 1}  # of a voxel's value along each axis
    seen = set()
    for step in range(5):
        batch = drawn.batch(step)
        assert batch.images.shape == (6, 1, 8, 8)
        assert batch.labels.shape == (6, 8, 8)
        for image, axes, spacing in zip(batch.images, batch.axes, batch.spacing_mm, strict=True):
            first, second = axes.tolist()
            assert image[0, 1, 0] - image[0, 0, 0] == strides[first]
            assert image[0, 0, 1] - image[0, 0, 0] == strides[second]
            assert spacing.tolist() == [(1.0, 1.0, 2.0)[axis] for axis in (first, second)]
            seen.add((first, second))
    assert seen == {(0, 1), (0, 2), (1, 2)}


def test_cuts_are_normalised_and_the_space_around_stays_zero():
    batch = sampler([case(normalise=lambda array: array * 0 + 5)], patch=(24, 16, 12)).batch(0)
    assert sorted(batch.images.unique().tolist()) == [0.0, 5.0]


class Broken:
    """An image that says how it fails when it is read."""

    def __init__(self, shape, fail):
        self.shape, self.fail = shape, fail

    def __getitem__(self, key):
        self.fail()


def broken(fail):
    whole = case()
    image = Broken(whole.image.shape, fail)
    return TrainingCase("toy", "broken", image, whole.label, whole.foreground, (1.0,) * 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_cut_the_same_batches(workers):
    drawn = list(sampler().batches(3, 8, workers=workers))
    assert len(drawn) == 5
    for step, batch in zip(range(3, 8), drawn, strict=True):
        expected = sampler().batch(step)
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.labels, expected.labels)
        assert torch.equal(batch.axes, expected.axes)
        assert batch.cases == expected.cases


def test_a_killed_process_is_said_to_be_one():
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(
        InputError, match="one of 2 processes that cut patches has ended.*memory_mb"
    ):
        list(sampler([broken(killed)]).batches(0, 4, workers=2))


def test_what_a_process_cannot_read_is_told_without_its_stack():
    def damaged():
        raise InputError("case_1.image.b2nd: damaged array")

    with pytest.raises(InputError) as raised:
        list(sampler([broken(damaged)]).batches(0, 4, workers=1))
    assert str(raised.value) == "case_1.image.b2nd: damaged array"


# --- voxels that nobody has labelled --------------------------------------------------------------


def sparse(slices, axis, shape=SHAPE):
    """A case with labels in some slices across an axis alone, a structure in the first of them."""
    image, label = np.zeros((1, *shape), np.float32), np.full(shape, IGNORED, np.uint8)
    place = [slice(None)] * 3
    place[axis] = list(slices)
    label[tuple(place)] = 0
    place[axis] = slices[0]
    label[tuple(place)][3:5, 3:5] = 1
    return TrainingCase(
        *("toy", "sparse", image, label),
        sample_foreground(label, "toy", "sparse"),
        (1.0, 1.0, 2.0),
        labelled=sample_labelled(label, "toy", "sparse"),
    )


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_slices_without_labels_are_never_drawn(share, most):
    """A tenth of the slices has labels, as of a large image that was labelled here and there."""
    settings = Slices(most_per_plane=most)
    drawn = Sampler([sparse((1, 6, 11), 2)], (8, 8), (8, 8), ("axial",), 4, share, 0, settings)
    for step in range(20):
        labels = drawn.batch(step).labels
        assert (labels != IGNORED).all()
    assert most is None or len(drawn.slices_of(drawn.cases[0], 2)) == 2


def test_every_patch_shows_a_labelled_voxel_and_what_is_ignored_is_no_foreground():
    own = sparse((2, 17), 0)
    assert set(own.foreground) == {1}
    assert own.slices_with_structure[0].tolist() == [2]
    assert set(own.labelled[:, 0]) == {2, 17}
    seen = set()
    for step in range(30):
        batch = sampler([own], patch=(4, 4, 4), share=0.0).batch(step)
        known = (batch.labels != IGNORED).flatten(1).any(1)
        assert known.all()
        seen.update(int(part.sum()) for part in (batch.labels == 0).flatten(1))
    assert seen


def test_a_case_with_all_labels_is_sampled_as_ever():
    assert sample_labelled(case().label, "toy", "case_0") is None


@pytest.mark.long
def test_the_benchmark_runs():
    run = run_quickly("loader")
    assert run.returncode == 0, run.stderr
    assert "| 32^3 | segstudy | disk |" in run.stdout
