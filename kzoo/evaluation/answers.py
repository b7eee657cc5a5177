"""The loop over a dataset that every evaluation starts with: batches and what was answered to them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

Arrays = Mapping[str, np.ndarray]
Predict = Callable[
    [np.ndarray], Mapping
]  # from `images` of a batch to answers; `model.predict_on_batch` is one


def batches_and_answers(
    predict: Predict,
    dataset: Iterable[Mapping],
    batch_keys: Sequence[str],
    answer_keys: Sequence[str],
    optional: Sequence[str] = (),
) -> Iterator[tuple[Arrays, Arrays]]:
    """Each batch of a dataset with its answers, as arrays, once both are seen to have what is asked for.

    Args:
        predict: from `images` [B, H, W, 3] of a batch to a dict of answers, each [B, ...].
        dataset: batches.
        batch_keys: what a batch must have; `images` is one of them.
        answer_keys: what the answer must have.
        optional: what is taken from the answer where it is there.

    Raises:
        ValueError: the dataset is empty; a batch or an answer lacks a key; predict answers for another number
            of pictures.
    """
    empty = True
    for batch in dataset:
        empty = False
        batch = _as_arrays(batch, batch_keys, "a batch of the dataset")
        answers = predict(batch["images"])
        there = [key for key in optional if key in answers]
        answers = _as_arrays(answers, [*answer_keys, *there], "the answer of predict")
        found, given = len(answers[answer_keys[0]]), len(batch["images"])
        if found != given:
            raise ValueError(f"predict answered for {found} pictures when it was given {given}")
        yield batch, answers
    if empty:
        raise ValueError("the dataset is empty: it gave no batch to evaluate")


def _as_arrays(tensors: Mapping, keys: Sequence[str], what: str) -> dict[str, np.ndarray]:
    missing = [key for key in keys if key not in tensors]
    if missing:
        raise ValueError(f"{what} lacks {missing}; it has {sorted(tensors)}")
    return {key: np.asarray(tensors[key]) for key in keys}
