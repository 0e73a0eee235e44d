"""Random requests of every sort at once: each finished greedy text is what its prompt gives alone.

SYNCYTE_STRESS_REQUESTS: how many requests (default 400; a full run makes 10,000).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

import syncyte

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from alone import Reference
from tiny_gguf import write_tiny_gguf

REQUESTS = int(os.environ.get("SYNCYTE_STRESS_REQUESTS", "400"))
THREADS = 20
CONTEXT = 200
WORDS = "the of and in that was for on are with his they at be this have from one had word but not".split()


class Asker:
    """One of many users of a model: a thread that asks in every way there is."""

    def __init__(self, model: syncyte.Model, prompts: list[list[int]], seed: int) -> None:
        self.model, self.prompts = model, prompts
        self.draw = random.Random(seed)
        self.endings: collections.Counter[str] = collections.Counter()
        self.greedy: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        ways = [self.whole] * 4 + [self.streamed] * 3 + [self.given_up] * 3
        ways += [self.several, self.talk, self.awaited, self.drawn, self.refused]
        try:
            while self.endings.total() < REQUESTS / THREADS:
                # Refused by max_waiting: asks again later, as a user would.
                with contextlib.suppress(syncyte.OverloadedError):
                    self.draw.choice(ways)()
                    continue
                self.endings["overloaded"] += 1
                time.sleep(self.draw.random() * 0.02)
        except BaseException as error:
            self.failure = error

    def options(self) -> dict[str, object]:
        found: dict[str, object] = {
            "max_tokens": self.draw.choice((1, 2, 5, 12, 30, 60)),
            "temperature": 0,
            "ignore_eos": True,
        }
        if self.draw.random() < 0.5:
            found["priority"] = self.draw.randint(-3, 3)
        if self.draw.random() < 0.2:
            found["deadline"] = self.draw.choice((0.001, 0.05, 0.3, 60))
        if self.draw.random() < 0.3:
            found["cache_salt"] = self.draw.choice("ab")
        return found

    def keep(self, prompt: list[int], made: syncyte.Completion, options: dict[str, object]) -> None:
        self.endings[made.finish_reason] += 1
        assert made.usage.prompt_tokens == len(prompt)
        assert made.usage.reused_tokens < len(prompt)
        if made.finish_reason == "length":
            # The last token needs no cell of the context.
            assert len(made.tokens) == min(int(str(options["max_tokens"])), CONTEXT - len(prompt))
        else:
            assert made.finish_reason == "deadline"
            assert "deadline" in options
        # What a deadline cut off is the beginning of the same text.
        self.greedy.append((tuple(prompt), tuple(made.tokens)))

    def whole(self) -> None:
        prompt, options = self.draw.choice(self.prompts), self.options()
        self.keep(prompt, self.model.generate(prompt, **options), options)

    def streamed(self) -> None:
        prompt, options = self.draw.choice(self.prompts), self.options()
        stream = self.model.stream(prompt, **options)
        text = "".join(stream)
        assert text == stream.completion.text
        self.keep(prompt, stream.completion, options)

    def given_up(self) -> None:
        stream = self.model.stream(self.draw.choice(self.prompts), **self.options())
        for _ in range(self.draw.choice((0, 0, 1, 5))):
            next(stream, None)
        if self.draw.random() < 0.5:
            stream.close()
        self.endings["given up"] += 1

    def several(self) -> None:
        prompt, options = self.draw.choice(self.prompts), self.options()
        for made in self.model.generate_n(prompt, self.draw.randint(2, 4), **options):
            self.keep(prompt, made, options)

    def talk(self) -> None:
        """A conversation that forks: the branches take turns, and one is rewound."""
        sessions = [self.model.session(" ".join(self.draw.choices(WORDS, k=self.draw.choice((1, 20)))))]
        for turn in range(3):
            for session in list(sessions):
                options = self.options()
                text = self.draw.choice(WORDS)
                prompt = session._question(text, None).prompt
                if len(prompt) >= CONTEXT:
                    return
                self.keep(prompt, session.send(text, **options), options)
            sessions.append(sessions[0].fork())
            if turn == 1:
                sessions[0].rewind()

    def awaited(self) -> None:
        asyncio.run(self.tasks())

    async def tasks(self) -> None:
        asked = [(self.draw.choice(self.prompts), self.options()) for _ in range(3)]
        tasks = [asyncio.create_task(self.model.agenerate(prompt, **options)) for prompt, options in asked]
        given_up = self.draw.randrange(3)
        await asyncio.sleep(self.draw.random() * 0.05)
        tasks[given_up].cancel()
        for (prompt, options), made in zip(
            asked, await asyncio.gather(*tasks, return_exceptions=True), strict=True
        ):
            if isinstance(made, asyncio.CancelledError | syncyte.OverloadedError):
                self.endings["given up" if isinstance(made, asyncio.CancelledError) else "overloaded"] += 1
            elif isinstance(made, BaseException):
                raise made
            else:
                self.keep(prompt, made, options)

    def drawn(self) -> None:
        """Not greedy, with a stop string: nothing to compare with, but it ends as it should."""
        options = {**self.options(), "temperature": 1.5, "stop": ["e", "zz"], "ignore_eos": False}
        made = self.model.generate(self.draw.choice(self.prompts), **options)
        assert made.finish_reason in ("stop", "length", "deadline")
        assert "e" not in made.text
        self.endings[made.finish_reason] += 1

    def refused(self) -> None:
        with pytest.raises(ValueError, match="the context 200"):
            self.model.generate(self.prompts[0] * (CONTEXT // len(self.prompts[0]) + 1))
        self.endings["refused"] += 1


def test_random_requests_give_what_each_gives_alone(tmp_path: Path) -> None:
    draw = random.Random(11)
    path = write_tiny_gguf(tmp_path / "together.gguf", context_length=512)
    # A file of its own is an engine of its own.
    shutil.copy(path, tmp_path / "alone.gguf")
    with (
        syncyte.Model(path, threads=1, max_sequences=6, context_length=CONTEXT, max_waiting=20) as model,
        syncyte.Model(tmp_path / "alone.gguf", threads=1, max_sequences=1, context_length=512) as other,
    ):
        families = [" ".join(draw.choices(WORDS, k=length)) for length in (1, 8, 30, 60, 90)]
        prompts = [
            model.tokenize(draw.choice(families) + " " + " ".join(draw.choices(WORDS, k=draw.randint(1, 12))))
            for _ in range(max(60, REQUESTS // 8))
        ]
        askers = [Asker(model, prompts, seed) for seed in range(THREADS)]
        for asker in askers:
            asker.thread.start()
        for asker in askers:
            asker.thread.join()
        assert [asker.failure for asker in askers if asker.failure] == []
        stats = model.stats()
        wait_until_idle(model)
        endings = sum((asker.endings for asker in askers), collections.Counter())
        assert endings.total() >= REQUESTS
        assert {"length", "deadline", "stop", "given up", "overloaded", "refused"} == set(endings)
        assert stats.pauses > REQUESTS // 100
        assert stats.evictions > 0
        assert stats.reused_tokens > stats.computed_tokens // 10
        reference = Reference(other)
        answers = collections.defaultdict(set)
        for asker in askers:
            for prompt, tokens in asker.greedy:
                answers[prompt].add(tokens)
        for prompt, made in answers.items():
            reference.compare(prompt, made)
        print(endings, stats, f"{reference.texts} texts, {reference.tokens} tokens, {reference.ties} ties")
        assert reference.tokens > 5 * REQUESTS
        assert reference.ties <= reference.tokens // 200


def wait_until_idle(model: syncyte.Model) -> None:
    end = time.monotonic() + 10
    while (stats := model.stats()).running + stats.waiting + stats.paused and time.monotonic() < end:
        time.sleep(0.01)
    assert (stats.running, stats.waiting, stats.paused) == (0, 0, 0)
    assert model._stats()["reserved_cells"] == 0
