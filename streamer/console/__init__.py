"""The operator's console: what `mien live` shows, tells over HTTP and on the bus, and does about it."""
