"""The step script: the part of fleet that travels to the host.

The controller imports this package for its types and sends it, zipped, to every host. It must therefore run on
Python 3.6 with nothing but the standard library and psutil, and it imports nothing else of fleet.
"""
