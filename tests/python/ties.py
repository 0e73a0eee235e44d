"""Compares answers that were computed in batches of another shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import syncyte


def same_but_for_ties(one: syncyte.Completion, other: syncyte.Completion) -> None:
    """Beside others, logits differ by what the cache's 16 bits round away: that decides between equals.

    Both greedy, with ``logprobs=2``, and as long as each other.
    """
    for ours, theirs in zip(one.logprobs, other.logprobs, strict=True):
        assert ours.top[0].logprob == pytest.approx(theirs.top[0].logprob, abs=0.02)
        if ours.token != theirs.token:
            assert ours.top[0].logprob - ours.top[1].logprob < 0.02
            return
