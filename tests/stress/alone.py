"""Whether greedy answers of a busy engine are what each prompt gives alone, and how to tell.

Batching visits the cells of the cache in another order, which changes the last bits of logits. So a text may
leave the one made alone only where two tokens were as likely as each other but for that.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import syncyte

# Nats. Rounding alone moves the tiny models' logits by a hundredth of this; another's cell in the cache moves
# them by many times this.
TIE = 0.01


class Reference:
    """Makes answers one at a time on a model of its own; nothing is reused from one to the next."""

    def __init__(self, model: syncyte.Model) -> None:
        self.model = model
        self.texts = self.tokens = self.ties = 0
        self._salt = itertools.count()

    def compare(self, prompt: Sequence[int], answers: Iterable[Sequence[int]]) -> None:
        """AssertionError when one of ``answers`` to ``prompt`` is not what the prompt gives alone."""
        answers = sorted(answers, key=len)
        if not answers or not answers[-1]:
            return
        alone = self._make(prompt, len(answers[-1]))
        for answer in answers:
            self._compare(list(prompt), list(answer), alone)

    def _make(self, prompt: Sequence[int], count: int) -> syncyte.Completion:
        return self.model.generate(
            prompt,
            max_tokens=count,
            temperature=0,
            ignore_eos=True,
            logprobs=2,
            cache_salt=str(next(self._salt)),
        )

    def _compare(self, prompt: list[int], answer: list[int], alone: syncyte.Completion) -> None:
        self.texts += 1
        start = 0
        while True:
            rest = answer[start:]
            same = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(rest, alone.tokens)))  # noqa: B905
            self.tokens += len(same)
            if len(same) == len(rest):
                return
            place = start + len(same)
            top = {one.token: one.logprob for one in alone.logprobs[len(same)].top}
            taken = answer[place]
            assert taken in top, f"token {place} of {answer} is {taken}, alone {top}"
            gap = max(top.values()) - top[taken]
            assert gap < TIE, f"token {place} of {answer} is {taken}, which alone is {gap} less likely"
            # From here on the answer goes another way, which is compared as well.
            self.ties += 1
            self.tokens += 1
            start = place + 1
            if start == len(answer):
                return
            alone = self._make(prompt + answer[:start], len(answer) - start)
