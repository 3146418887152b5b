#!/bin/sh
if [ "$1" = --list ]; then
    echo '{"web": {"hosts": ["web1", "web2"], "vars": {"a": "group"}}, "all": {"vars": {"b": "all"}}}'
else
    echo "{\"name_of\": \"$2\", \"a\": \"host\"}"
fi
