"""Everything that a look does without, and that a request loads before it acts.

A visit that acts, and the watcher that it leaves behind, must not find that Python or the bundle was removed meanwhile.
"""

import ctypes
import hashlib
import subprocess
import syslog
import threading
import traceback

from fleet.onhost.nginx import draining
from fleet.onhost.reasons import catalogue
from fleet.onhost.report import committed_by, unit_view
from fleet.onhost.steps import context, start_command
from fleet.onhost.system import exchanged_names, network_namespace, xattr

MODULES = (
    *(ctypes, hashlib, subprocess, syslog, threading, traceback),
    *(draining, catalogue, context, start_command, exchanged_names, network_namespace, xattr, committed_by, unit_view),
)
