"""Tells the operator of a host whose old master was ended by someone else."""

from fleet.onhost.observation import Observation
from fleet.onhost.protocol import Ask, Record, State
from fleet.onhost.report.committed_by import committed_by
from fleet.onhost.visit.request import Visit


def say_committed(visit: Visit, record: Record, seen: Observation) -> Record:
    """The record, after a warning where someone else has ended the old master. A commit writes down who that was."""
    by = committed_by(visit.instance, record, seen) if record.state is State.BEGUN else ""
    if not by:
        return record
    visit.context(record, record.target).warn("committed_elsewhere", by=by)
    if visit.request.ask is not Ask.COMMIT:
        return record
    record = record._replace(committed_by=by)
    visit.instance.own.write_record(record)
    return record
