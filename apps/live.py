"""Live streaming for development: anyone publishes, plays, and uses any SharedObject. Do not serve it to strangers."""

from headwater_origin import Application


class Live(Application):
    """Everything is allowed."""

    allow_publish = True
    allow_shared_objects = True
    allow_persistent_objects = True
