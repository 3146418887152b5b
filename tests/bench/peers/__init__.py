"""The same upgrade of the same lab hosts by fleet and by its peers: `make bench` writes docs/performance.md."""
