"""What runs on a host before the package can: check its folders, receive and unpack it, start it, load psutil, become root.

`safe_folders`, `start`, `receive` and `become_root` are sent as text. They import nothing of fleet but one another.
"""
