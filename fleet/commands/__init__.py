"""One module per command: what was asked for in, exit code out. `cli` declares the options and imports these lazily."""
