"""How `--help` looks: the titles of the groups, and the style.

An option names its group with `panel=`. A command's groups stand in the order of its first option of each, and the
options of a group in the order of their declaration.
"""

HOSTS = "Hosts and release"
ROLLOUT = "Rollout"
SAFETY = "Safety"
CONNECTION = "Connection"
LOCKS = "Journal and locks"
OUTPUT = "Output"
LAB = "Lab"

ARGUMENTS = "Arguments"

STYLE = {
    # Without frames, and with the value's name beside the option, the help fits a terminal of 80 columns.
    "theme": "default-slim",
    "commands_before_options": True,
    "options_panel_title": "Help",
    "padding_helptext_first_line": (0, 0, 1, 0),
    "text_paragraph_linebreaks": "\n\n",
    "append_metavars_help_string": "{}",
    "default_string": r"\[default: {}]",
    "envvar_string": r"\[env: {}]",
    "style_helptext": "",
}
