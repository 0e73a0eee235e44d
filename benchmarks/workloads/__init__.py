"""One module per workload, found by its file name.

A workload has a docstring whose first line says what it measures, and `def run(bench: Bench) -> None`.
"""
