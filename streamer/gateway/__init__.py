"""The engine gateway: meshes from the bus to engines and tools, as records over TCP and WebSocket (docs/gateway.md)."""
