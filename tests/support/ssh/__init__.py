"""Real sshds, agents, bastions and stub step scripts for the tests of SSH."""
