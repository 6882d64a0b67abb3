"""The pairs of each image in order of promise, so that what cannot matter any more is not searched to its end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pandas import DataFrame, concat

__all__ = ["compare_in_rounds"]


def compare_in_rounds(pairs: DataFrame, compare: Callable[[DataFrame], DataFrame], least: float | None) -> DataFrame:
    """Compare the most promising pair of each query, then two more, four more and so on.

    A pair matters where its score is the highest of its query, or above ``least``. What a pair of a later round has to
    reach for that is known from the rounds before.

    Args:
        pairs: ``query`` and ``training``, the most promising pair of each query first.
        compare: takes some of these pairs with ``least_score``, what a score has to reach to matter, NaN where any
            score does; returns them with their ``score``, without those that were given up because they do not reach
            it.
        least: score above which all pairs are wanted; ``None`` where all are wanted whatever they score.

    Returns:
        What ``compare`` returned.

    Example:
        >>> scores = np.array([0.7, 0.6, 0.9])
        >>> def compare(pairs):
        ...     print(pairs["training"].tolist(), pairs["least_score"].tolist())
        ...     return pairs.assign(score=scores[pairs["training"]])
        >>> pairs = DataFrame({"query": 5, "training": [2, 0, 1]})
        >>> _ = compare_in_rounds(pairs, compare, least=0.8)
        [2] [nan]
        [0, 1] [0.8, 0.8]
    """
    if least is None or pairs.empty:
        return compare(pairs.assign(least_score=np.nan))
    place = pairs.groupby("query").cumcount()
    turns = np.log2(place + 1).astype(int)  # places 0, 1 and 2, 3 to 6, 7 to 14
    first = pairs[turns == 0]
    compared = [compare(first.assign(least_score=np.nan))]
    for turn in range(1, turns.max() + 1):
        highest = concat(compared).groupby("query")["score"].max()
        pairs_of_turn = pairs[turns == turn]
        least_score = np.minimum(pairs_of_turn["query"].map(highest), least)
        compared.append(compare(pairs_of_turn.assign(least_score=least_score)))
    return concat(compared, ignore_index=True)
