# The line to the gateway: TCP, or TLS over it. Godot 3.
extends Reference

enum {CONNECTING, OPEN, CLOSED}

var trouble = ""  # why it could not be opened; empty: nobody answered
var _tcp = null
var _tls = null
var _host
var _secure = false
var _trusted = null
var _asked = false


# Begins to connect. `certificate` is a PEM file to trust, empty: those that the project trusts (network/ssl/certificates).
func open(host, port, tls, certificate):
	_host = host
	_secure = tls
	if certificate != "":
		_trusted = X509Certificate.new()
		if _trusted.load(certificate) != OK:
			trouble = "the certificate %s cannot be read; give a PEM file" % certificate
			return
	_tcp = StreamPeerTCP.new()
	if _tcp.connect_to_host(host, port) != OK:
		_tcp = null


func poll():
	if _tcp == null:
		return CLOSED
	var state = _tcp.get_status()
	if state == StreamPeerTCP.STATUS_CONNECTING:
		return CONNECTING
	if state != StreamPeerTCP.STATUS_CONNECTED:
		return CLOSED
	_tcp.set_no_delay(true)
	return _secured() if _secure else OPEN


func _secured():
	if _tls == null:
		_tls = StreamPeerSSL.new()
		_tls.blocking_handshake = false
		if _tls.connect_to_stream(_tcp, true, _host, _trusted) != OK:
			return _distrusted()
	_tls.poll()
	var state = _tls.get_status()
	if state == StreamPeerSSL.STATUS_HANDSHAKING:
		return CONNECTING
	if state == StreamPeerSSL.STATUS_CONNECTED:
		_asked = true
		return OPEN
	return CLOSED if _asked else _distrusted()


func _distrusted():
	trouble = "no TLS with %s: is serve.tls_certificate set there, and is it trusted here (`certificate`)?" % _host
	return CLOSED


func send(data):
	_stream().put_data(data)


# What has come, perhaps nothing; null: the line is cut.
func receive():
	var count = _stream().get_available_bytes()
	if count == 0:
		return PoolByteArray()
	var got = _stream().get_partial_data(count)
	return got[1] if got[0] == OK else null


func close():
	if _tcp != null:
		_tcp.disconnect_from_host()
	_tcp = null
	_tls = null


func _stream():
	return _tcp if _tls == null else _tls
