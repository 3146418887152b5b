"""For tests on lab hosts: operators that run fleet, faults, and looks at a host without fleet."""
