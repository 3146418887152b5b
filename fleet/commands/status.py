"""`fleet status`: every host's own state, asked now."""

from fleet.environment import CommandOptions, Environment
from fleet.rollout import results
from fleet.runs.engine_run import command_output, look_at, selected_hosts
from fleet.ui import status_table
from fleet.ui.alarms import alarms


def run(environment: Environment, options: CommandOptions, as_json: bool) -> int:
    """Prints the table or the document. Returns 0 if every host answered, else 4."""
    output = command_output(options)
    look = look_at(environment, output, selected_hosts(options, output), options)
    if as_json:
        output.document(status_table.document(look))
    else:
        output.result(status_table.table(look))
    if look.exit_code != results.OK:
        output.say(look.message)
    output.alarm(alarms(look))
    return look.exit_code or results.OK
