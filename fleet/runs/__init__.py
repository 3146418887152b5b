"""What commands share: which hosts and which rollout are meant, a run of the engine with its journal, the plan's text.

May import `environment`, `ui` and everything below; `commands` import it.
"""
