"""The limits of a module and a folder, and the exceptions to the rules of the rooms, each with its reason.

`tests/test_house.py` holds the tree to the rules. An exception that is no longer needed fails there, too.
"""

MOST_MODULES = 16
"""In one folder, `__init__` and `__main__` aside: what a reader takes in at a glance."""
LONGEST_MODULE = 350

SHARED_STEMS = {
    "cli": "the command line of fleet, and of its lab",
    "commit": "the command, and its decisions",
    "resume": "the command, and its decisions",
    "rollback": "the command, its decisions, and its visit on the host",
    "upgrade": "the command, its decisions, and its visit on the host",
    "release": "a release on the laptop, and how preflight judges it",
    "visit": "a visit seen from the laptop, and the sentences of a visit",
    "forward": "the steps forward, and their sentences",
    "back": "the steps back, and their sentences",
}
"""Stems that several modules have because they are about the same thing, each in its own room."""

WHOLE_SYSTEM = {
    "tests/test_house.py": "the whole tree",
    "tests/test_docs.py": "the pages and what they point to",
    "tests/test_stateful.py": "the whole controller over pretend hosts, by drawn schedules",
    "tests/commands/test_events.py": "the events that every command gives",
    "tests/commands/test_refusals.py": "the texts of every error that ends a command",
    "tests/inventory/test_inventory.py": "the package by its one function, from file to hosts",
    "tests/inventory/test_side_by_side.py": "the package beside the real ansible-inventory",
    "tests/options/test_help.py": "`--help` of every command",
    "tests/lab/releases/test_on_hosts.py": "the releases on lab hosts",
    "tests/lab/traffic/test_on_hosts.py": "the clients against lab hosts",
    "tests/lab/test_bad_input.py": "fleet against a lab: nonsense from the operator",
    "tests/lab/test_bad_releases.py": "fleet against a lab: every kind of bad release",
    "tests/lab/test_bastion.py": "fleet against a lab behind a bastion",
    "tests/lab/test_cures.py": "fleet against a lab: the command in a remedy makes the upgrade possible",
    "tests/lab/test_dead_hosts.py": "fleet against a lab: hosts that died",
    "tests/lab/test_demo.py": "`fleet demo` as it ships",
    "tests/lab/test_failure_modes.py": "fleet against a lab: the failure modes of nginx's own upgrade",
    "tests/lab/test_going_back.py": "fleet against a lab: rollback, undo, a controller that was killed",
    "tests/lab/test_hostile.py": "fleet against a lab: hosts that an attacker has taken over",
    "tests/lab/test_interrupt.py": "fleet against a lab: signals to the controller",
    "tests/lab/test_inventories.py": "fleet against a lab: an inventory with other machines in it",
    "tests/lab/test_journal.py": "fleet against a lab: the laptop's journal",
    "tests/lab/test_known_lines.py": "fleet against a lab: hosts whose running release writes alerts",
    "tests/lab/test_lease.py": "fleet against a lab: leases that run out",
    "tests/lab/test_start_nginx.py": "fleet against a lab: hosts whose nginx is down, started as fleet says",
    "tests/lab/test_watcher.py": "fleet against a lab: the watcher of a lease on hosts with systemd",
    "tests/lab/test_matrix.py": "fleet against a lab: the kill matrix",
    "tests/lab/test_model.py": "the model nginx of the tests against the real one",
    "tests/lab/test_own_hosts.py": "fleet against a lab: a dead host beside a rollout",
    "tests/lab/test_phases.py": "the recorded phases against the real nginx",
    "tests/lab/test_no_trace.py": "fleet against a lab: check and a refused upgrade leave no trace",
    "tests/lab/test_moved_address.py": "fleet against a lab: a listening address that is on another node by now",
    "tests/lab/test_packages.py": "fleet against a lab: nginx's package, installed beside fleet",
    "tests/lab/test_preflight.py": "fleet against a lab: every word of preflight",
    "tests/lab/test_probes.py": "fleet against a lab: probes from the inventory to the verdict",
    "tests/lab/test_processors.py": "fleet against a lab: hosts that got other processors after nginx was started",
    "tests/lab/test_random_faults.py": "fleet against a lab: drawn faults",
    "tests/lab/test_rehearsal.py": "fleet against a lab: what a rehearsal shows, and that it leaves no trace",
    "tests/lab/test_rehearse_option.py": "fleet against a lab: the switch of the rehearsal, and where its evidence is shown",
    "tests/lab/test_refusals.py": "fleet against a lab: logins and Pythons that can't work",
    "tests/lab/test_ssh.py": "visits of lab hosts",
    "tests/lab/test_story.py": "fleet against a lab: the main job under load",
    "tests/lab/test_unit_table.py": "fleet against a lab: what outsiders do to nginx's systemd unit",
    "tests/lab/test_unit_follows.py": "fleet against a lab: the process that systemd follows",
    "tests/lab/test_guard.py": "fleet against a lab: the guard of a held unit",
    "tests/lab/test_two_laptops.py": "fleet against a lab: two operators",
    "tests/lab/test_walk_away.py": "commit and walk away",
    "tests/onhost/bootstrap/test_silence.py": "all of the bootstrap on a link that was cut",
    "tests/onhost/visit/test_pretend_host.py": "the pretend host of the tests against a real step script",
    "tests/onhost/visit/test_pretend_login.py": "a login of the pretend host against a real shell and step script",
    "tests/onhost/test_failure_modes.py": "the steps on a private nginx, in the failure modes of its own upgrade",
    "tests/onhost/test_phases.py": "observation and procedure on recorded hosts",
    "tests/onhost/test_travels.py": "all of the package: what a host's Python must be able to run",
    "tests/ssh/test_error_texts.py": "every error of the SSH package: its form and its remedy",
    "tests/ssh/test_arm64.py": "a visit of a host with another processor",
    "tests/ssh/test_hosts.py": "visits of hosts with odd logins, homes, Pythons and clocks",
    "tests/ssh/test_ssh_arguments.py": "ssh's options, from the inventory's file to the host behind bastions",
    "tests/ssh/transport/test_login_limits.py": "many logins at once, against the limits of sshd",
}
"""Test modules that no single module of fleet stands for, and what they are about."""
