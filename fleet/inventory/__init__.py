"""The hosts that can be upgraded: Ansible's YAML inventory, or what `ansible-inventory` makes of any other.

From the ground up: `names` (what a host may be called, ranges) and `spelling`; `tree` (groups, hosts, variables with
their places, merged as Ansible merges them); `yaml_file` and `ansible` (two readers that fill it); `variables` (what the
variables of a host mean); `patterns` (what `--limit` selects); `sources` (all of it in order).
`inventories/example.yaml` is the reference of the format.
"""

from fleet.inventory.sources import Inventory, load

__all__ = ["Inventory", "load"]
