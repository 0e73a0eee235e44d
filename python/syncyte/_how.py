"""How an object would travel: answers for people, at the price of one trial."""

from syncyte import _core


def how(obj: object, /) -> str:
    """How `obj` would travel through a queue or channel.

    Returns "by reference" (nothing is copied), "copied" (natively), "pickled" (it, or something in it, needs
    pickle) or "not at all: " and why. The object is converted once to find out; that it can also be unpickled
    elsewhere, where its class may be missing, is not tried.
    """
    if isinstance(obj, _core.Handle):
        return "by reference"
    try:
        _core.Message(obj, pickle=False)
    except Exception:
        pass
    else:
        return "copied"
    try:
        _core.Message(obj)
    except Exception as error:
        reasons = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
        return "not at all: " + "; ".join(reasons)
    return "pickled"


def is_shareable(obj: object, /) -> bool:
    """Whether `obj` can travel through a queue or channel: natively, by reference or by pickle."""
    return not how(obj).startswith("not at all")
