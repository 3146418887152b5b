#!/bin/sh
cat <<'JSON'
{"web": {"hosts": ["web2", "web1"], "vars": {"who": "web", "ansible_group_priority": 3}, "children": ["edge"]},
 "zone": {"hosts": ["web1", "web2"], "vars": {"who": "zone", "x": [1, "{{ y }}"]}},
 "edge": ["edge1"],
 "_meta": {"hostvars": {"web1": {"ansible_host": "192.0.2.1", "a": "program", "n": 7},
                        "removed": {"ansible_host": "192.0.2.66"}}}}
JSON
