"""The real Ansible beside fleet, for the tests of inventories."""
