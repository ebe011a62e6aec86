"""The bus: vocabulary, wire format, transport, frame-set assembly, takes on disk. Imports no other room."""
