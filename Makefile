# Every target does its own set-up (./dev says what it installs, and why). Nothing here needs more than make and sh.

.PHONY: help demo test test-long lint docs bench bench-long clean
.NOTPARALLEL:

help:
	@echo "make demo       a lab of real hosts on this machine, a rollout under load, a bad release twice, a rollback"
	@echo "make test       every linter, then all tests"
	@echo "make test-long  the whole kill matrix and a thousand random faults, five thousand schedules: hours"
	@echo "make lint       the linters alone"
	@echo "make docs       the pages of docs/ that are made from the code"
	@echo "make bench      fleet beside its peers on 10 and 50 lab hosts: 30 minutes; make bench-long: up to 200, hours"
	@echo "make clean      remove the virtual environment and the caches"

demo test test-long lint docs bench bench-long clean:
	@sh ./dev $@
