"""How connections come in: listeners, and what is found out about a connection until it is a client's."""

from headwater_edge.doors.door import Door, TrustedProxies
from headwater_edge.doors.listening import Doors, Place, open_doors
from headwater_edge.doors.options import door_options, doors_of

__all__ = ["Door", "Doors", "Place", "TrustedProxies", "door_options", "doors_of", "open_doors"]
