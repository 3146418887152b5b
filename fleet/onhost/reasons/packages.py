"""Reasons about what package managers and others do to nginx's file while fleet is at work."""

from fleet.onhost.reasons.reason import overridable, refusal, warning

PATH = (
    refusal(
        "package_not_held",
        "The package of nginx could not be held, as --hold-package asks (`{command}`): {error}. Nothing was begun.",
        "Make that command work on the host (dnf needs `dnf install 'dnf-command(versionlock)'`), or leave out "
        "`--hold-package`.",
    ),
    warning(
        "package_still_held",
        "The package of nginx is still on hold, because fleet could not release it: {error}.",
        "Release it on the host: `{command}`. Any later commit or rollback there tries it again.",
    ),
    warning(
        "committed_elsewhere",
        "The old master was ended from outside fleet, by {by}. The release of this rollout serves alone, so going back is now "
        "an upgrade with the kept binary.",
        "Nothing to do to keep it: a commit writes this down. Keep packages off a held host: `fleet upgrade --hold-package`.",
    ),
    overridable(
        "path_changed",
        "The file {path} is {file}: neither the release of this rollout nor the one before it, so fleet does not overwrite "
        "it. nginx serves as before; that file starts at its next restart or reboot.",
        "If that file should run, restart nginx at a quiet time, such as by `systemctl restart nginx`. To overwrite it (fleet "
        "keeps a copy in its state folder), type the command once more with `--allow path-changed`.",
    ),
    warning(
        "path_left",
        "The file {path} is {file}: neither the release of this rollout nor the one before it, so fleet has left it there. It "
        "does not run now; it starts at the next restart or reboot.",
        "Leave it if it should run then. To put the old binary there, run "
        "`fleet rollback --limit HOST --allow path-changed`.",
    ),
)
