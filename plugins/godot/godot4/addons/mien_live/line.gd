# The line to the gateway: TCP, TLS over it, or WebSocket, the only one that a page in a browser has. Godot 4.
extends RefCounted

enum {CONNECTING, OPEN, CLOSED}

const LARGEST = 1 << 24  # bytes of a WebSocket message: a topology of 300,000 vertices

var trouble = ""  # why it could not be opened; empty: nobody answered
var _tcp = null
var _tls = null
var _web = null
var _host
var _options = null
var _asked = false


# Begins to connect. `host` may be ws://HOST:PORT or wss://HOST:PORT instead; `certificate` is a PEM file to trust, empty: those of the system.
func open(host, port, tls, certificate):
	_host = host
	var web = host.begins_with("ws://") or host.begins_with("wss://")
	if tls or host.begins_with("wss://"):
		var trusted = null
		if certificate != "":
			trusted = X509Certificate.new()
			if trusted.load(certificate) != OK:
				trouble = "the certificate %s cannot be read; give a PEM file" % certificate
				return
		_options = TLSOptions.client(trusted)
	if web:
		_web = WebSocketPeer.new()
		_web.inbound_buffer_size = LARGEST
		if _web.connect_to_url(host, _options) != OK:
			_web = null
	elif OS.has_feature("web"):
		trouble = "a page has no raw sockets: set host to ws://%s:5751, with serve.websocket_port" % host
	else:
		_tcp = StreamPeerTCP.new()
		if _tcp.connect_to_host(host, port) != OK:
			_tcp = null


func poll():
	if _web != null:
		_web.poll()
		var state = _web.get_ready_state()
		if state == WebSocketPeer.STATE_CONNECTING:
			return CONNECTING
		return OPEN if state == WebSocketPeer.STATE_OPEN or _web.get_available_packet_count() > 0 else CLOSED
	if _tcp == null:
		return CLOSED
	_tcp.poll()
	var state = _tcp.get_status()
	if state == StreamPeerTCP.STATUS_CONNECTING:
		return CONNECTING
	if state != StreamPeerTCP.STATUS_CONNECTED:
		return CLOSED
	_tcp.set_no_delay(true)
	return OPEN if _options == null else _secured()


func _secured():
	if _tls == null:
		_tls = StreamPeerTLS.new()
		if _tls.connect_to_stream(_tcp, _host, _options) != OK:
			return _distrusted()
	_tls.poll()
	var state = _tls.get_status()
	if state == StreamPeerTLS.STATUS_HANDSHAKING:
		return CONNECTING
	if state == StreamPeerTLS.STATUS_CONNECTED:
		_asked = true
		return OPEN
	return CLOSED if _asked else _distrusted()


func _distrusted():
	trouble = "no TLS with %s: is serve.tls_certificate set there, and is it trusted here (`certificate`)?" % _host
	return CLOSED


func send(data):
	if _web != null:
		_web.send(data)
	else:
		_stream().put_data(data)


# What has come, perhaps nothing; null: the line is cut.
func receive():
	if _web != null:
		var joined = PackedByteArray()
		while _web.get_available_packet_count() > 0:
			joined.append_array(_web.get_packet())
		return joined
	var count = _stream().get_available_bytes()
	if count == 0:
		return PackedByteArray()
	var got = _stream().get_partial_data(count)
	return got[1] if got[0] == OK else null


func close():
	if _web != null:
		_web.close()
	if _tcp != null:
		_tcp.disconnect_from_host()
	_web = null
	_tcp = null
	_tls = null


func _stream():
	return _tcp if _tls == null else _tls
