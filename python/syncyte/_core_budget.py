"""The engine's share of the cores."""

from syncyte import _core


def set_core_budget(*, engine: int | None = None, agents: int | None = None) -> None:
    """Says how the cores are divided between the engine, which computes the models, and everybody else.

    By itself the engine takes, before each step, the cores that nobody else is busy on: fewer while
    interpreters or other programs compute, all when they are idle. ``engine``: it takes so many threads
    instead, however busy the machine is. ``agents``: it leaves so many cores alone even while they are idle.
    It never takes more than the process may use (affinity, control group) or than a model's ``threads``, and
    always one at least. None: nothing is fixed. Holds for the whole process, from the next step on; each call
    replaces the one before. ``Model.stats().threads`` tells what it comes to.

    ValueError for a count below 1 (``engine``) or 0 (``agents``), or above 512.
    """
    _core._set_core_budget(engine, agents)


set_core_budget.__module__ = "syncyte"
