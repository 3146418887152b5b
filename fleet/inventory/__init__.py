"""The inventory: Ansible's YAML format, or any other that `ansible-inventory` or a program turns into JSON.

host_names.py          valid names, ranges (`web-[01:20]`), `name:port`
nearest.py             "did you mean"
tree.py                groups, hosts and variables with file and line, merged as Ansible merges them
yaml_values.py         reads YAML into variables
yaml_file.py           reads an inventory in YAML, or a file of variables, into the tree
ansible.py             reads the JSON of `ansible-inventory --list` or of an executable inventory into the tree
variable_folders.py    reads `group_vars` and `host_vars` into the tree
ansible_variables.py   what fleet does with each of Ansible's variables
ssh_arguments.py       options of ssh in `ansible_ssh_common_args` and its like
host_values.py         the values of those that fleet reads, where they are written plainly
host_variables.py      the variables that fleet reads, and what is allowed in each
variables.py           builds a `Host` of its variables
patterns.py            what `--limit` selects
selection.py           the selected hosts, or why they are refused, and notes: `Inventory`
sources.py             loads all sources: `load`

`inventories/example.yaml` documents the format. May import `host`, `errors`, `typed_command` and `onhost`.
"""

from fleet.inventory.ansible_variables import Password
from fleet.inventory.selection import Inventory, Selection
from fleet.inventory.sources import load

__all__ = ["Inventory", "Password", "Selection", "load"]
