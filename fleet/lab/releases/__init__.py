"""Good and bad nginx binaries, made from an installed one."""
