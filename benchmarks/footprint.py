"""What memory a tree of processes takes, as the kernel counts it."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Footprint:
    """Megabytes (10^6 bytes) of a process or of several together.

    `private` is what nobody else maps (the unique set size); `proportional` adds each shared page divided by
    the number of processes that map it, so that the sum over processes is what the machine really holds.
    """

    private: float
    proportional: float

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(self.private + other.private, self.proportional + other.proportional)


def of_process(pid: int) -> Footprint:
    """Raises OSError when the process is gone or not ours to look into."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"] + kilobytes.get("Private_Hugetlb", 0)
    return Footprint(private * 1024 / 1e6, kilobytes["Pss"] * 1024 / 1e6)


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # ended meanwhile
            children[int(text[text.rindex(")") + 2 :].split()[1])].append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children[pid])
    return found


def of_tree(root: int) -> Footprint:
    """The process and all its descendants together."""
    total = Footprint(0.0, 0.0)
    for pid in tree(root):
        total += of_process(pid)
    return total
