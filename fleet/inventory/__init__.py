"""The inventory: Ansible's YAML format, or any other that `ansible-inventory` or a program turns into JSON.

host_names.py     valid names, ranges (`web-[01:20]`), `name:port`
nearest.py        "did you mean"
tree.py           groups, hosts and variables with file and line, merged as Ansible merges them
yaml_file.py      reads YAML into the tree
ansible.py        reads the JSON of `ansible-inventory --list` or of an executable inventory into the tree
ssh_arguments.py  options of ssh in `ansible_ssh_common_args` and its like
variables.py      checks the variables of a host and builds a `Host`
patterns.py       what `--limit` selects
sources.py        loads all sources: `load`, `Inventory`

`inventories/example.yaml` documents the format. May import `host`, `errors` and `onhost`.
"""

from fleet.inventory.sources import Inventory, load

__all__ = ["Inventory", "load"]
