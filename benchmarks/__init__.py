"""Named workloads, each beside its peers in one run: `python -m benchmarks list`."""
