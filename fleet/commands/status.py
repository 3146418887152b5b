"""`fleet status`: what every host says of itself now."""

from fleet import status as face
from fleet.commands.run import hosts_of, look_at, output_of
from fleet.console import alarms
from fleet.rollout import ending
from fleet.world import Asked, World


def run(world: World, asked: Asked, as_json: bool) -> int:
    """The table or the document is on stdout. 0 when every host answered, else 4."""
    output = output_of(asked)
    looked = look_at(world, output, hosts_of(asked), asked)
    if as_json:
        output.document(face.document(looked))
    else:
        output.result(face.table(looked))
    if looked.exit_code != ending.OK:
        output.say(looked.message)
    output.shout(alarms(looked))
    return looked.exit_code or ending.OK
