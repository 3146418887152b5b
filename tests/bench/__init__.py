"""What fleet costs beside its peers, in one run on one machine: `python -m tests.bench.NAME`. No test: times are noisy."""
