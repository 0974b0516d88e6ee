"""The daemon's side of the wire: sockets, connected shims, requests and their answers."""
