"""Good and bad nginx binaries, made from an installed one.

Imports nothing of the lab; `elf` alone imports the ELF reader.
"""
