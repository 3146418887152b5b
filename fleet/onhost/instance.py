"""One nginx on this host: how fleet looks at it, and what the host keeps of it."""

from typing import NamedTuple, Optional

from fleet.onhost.nginx.observe import Observer
from fleet.onhost.observation import Observation
from fleet.onhost.protocol import Layout, Record
from fleet.onhost.remembered import Remembered
from fleet.onhost.state.store import InstanceStore, Serving, Store
from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd.service_manager import ServiceManager


class Instance(NamedTuple):
    """The host, the view of this nginx, the host's store, and this nginx's own folder in it.

    `kept` is `None` while the pid file is unknown: the folder is named after it. `systemd` is the host's systemd.
    """

    machine: Machine
    observer: Observer
    store: Store
    kept: Optional[InstanceStore]
    systemd: ServiceManager

    @classmethod
    def at(cls, machine: Machine, layout: Layout, remembered: Optional[Remembered] = None) -> "Instance":
        """The instance with this layout."""
        store = Store(machine, layout.state_dir)
        kept = store.instance(layout.pid_file) if layout.pid_file else None
        return cls(machine, Observer(machine, layout, remembered), store, kept, ServiceManager(machine))

    @property
    def layout(self) -> Layout:
        return self.observer.layout

    @property
    def own(self) -> InstanceStore:
        """The instance's folder, for code that runs only once the pid file is known."""
        assert self.kept is not None, "the pid file is unknown"
        return self.kept

    @property
    def record(self) -> Optional[Record]:
        """What is wanted here; `None`: nothing. Raises `Malformed`."""
        return self.kept.record if self.kept else None

    @property
    def serving(self) -> Serving:
        """What earlier visits noted about the masters."""
        return self.kept.serving if self.kept else Serving()

    def look(self) -> Observation:
        return self.observer.look()

    def note(self, **entry: object) -> bool:
        """Whether the entry is in the host's journal. A full disk must not stop a host from going back."""
        if self.kept is None:
            return False
        try:
            self.kept.note(**entry)
        except OSError:
            return False
        return True
