"""How much memory this process holds for itself."""


def private_megabytes() -> float | None:
    """The memory no other process shares, in MB; None where the kernel does not tell."""
    try:
        with open("/proc/self/smaps_rollup", "rb") as file:  # noqa: PTH123
            lines = file.read().split(b"\n")
    except OSError:
        return None
    private = (b"Private_Clean:", b"Private_Dirty:")
    kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith(private))
    return kilobytes * 1024 / 1e6
