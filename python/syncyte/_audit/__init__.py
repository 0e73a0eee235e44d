"""Which packages can live in own-GIL interpreters: every extension module is tried in child processes."""
