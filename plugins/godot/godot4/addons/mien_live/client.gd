# The connection to the gateway (Godot 4, not run by us): poll() each frame; newest head only; comes back by itself.
extends RefCounted

const Records = preload("records.gd")
const RETRY_MS = 500
const REFUSED_MS = 3000  # a server that does not speak our language will not learn at once
const SILENCE_MS = 5000  # health comes each second
const CONNECT_MS = 2000

var status = "not connected"  # one line for people
var topology = null  # of the frames
var frame = null  # the newest that was not taken: whoever takes it sets null
var fresh = false  # the topology was not taken yet
var received = 0

var _host
var _port
var _token
var _socket = null
var _reader = null
var _asked = false
var _answered = false
var _heard_ms = 0
var _next_ms = 0


func _init(host, port, token = ""):
	_host = host
	_port = port
	_token = token


func poll(now_ms):
	if _socket == null:
		if now_ms >= _next_ms:
			_connect(now_ms)
		return
	_socket.poll()
	var state = _socket.get_status()
	if state == StreamPeerTCP.STATUS_CONNECTED:
		if not _asked:
			_ask()
		_receive(now_ms)
	elif state != StreamPeerTCP.STATUS_CONNECTING or now_ms - _heard_ms > CONNECT_MS:
		_nobody(now_ms)


func close():
	if _socket != null:
		_socket.disconnect_from_host()
	_socket = null
	status = "not connected"


func _connect(now_ms):
	_socket = StreamPeerTCP.new()
	_reader = Records.new()
	_asked = false
	_answered = false
	_heard_ms = now_ms
	if _socket.connect_to_host(_host, _port) != OK:
		_nobody(now_ms)


func _nobody(now_ms):
	if _asked:
		_reader.close()
		_give_up(_reader.error if _reader.fault != "" else "the server hung up; connecting again", now_ms, RETRY_MS)
	else:
		_give_up("nobody answers at %s:%d; is `mien serve` running?" % [_host, _port], now_ms, RETRY_MS)


func _ask():
	var asked = {"target": "godot", "split": true, "normals": true}
	if _token != "":
		asked["token"] = _token
	_socket.put_data(Records.encode_request(asked))
	_socket.set_no_delay(true)
	_asked = true
	status = "connected; waiting for a head"


func _give_up(why, now_ms, pause_ms):
	close()
	status = why
	frame = null
	_next_ms = now_ms + pause_ms


func _receive(now_ms):
	var count = _socket.get_available_bytes()
	if count > 0:
		var got = _socket.get_partial_data(count)
		if got[0] != OK:
			_nobody(now_ms)
			return
		_heard_ms = now_ms
		_reader.feed(got[1])
	elif now_ms - _heard_ms > SILENCE_MS:
		_give_up("the server has fallen silent; connecting again", now_ms, RETRY_MS)
		return
	var message = _reader.next()
	while message != null:
		if not _accept(message, now_ms):
			return
		message = _reader.next()
	if _reader.fault != "":
		_give_up(_reader.error, now_ms, REFUSED_MS)


func _accept(message, now_ms):
	var kind = message["kind"]
	if kind == Records.END:
		_give_up("the server says: %s; connecting again" % message["text"], now_ms, RETRY_MS)
		return false
	if kind == Records.HELLO:
		if message["about"].get("token", false) and _token == "":
			_give_up("the server asks for a token: that of its serve.token_file", now_ms, REFUSED_MS)
			return false
		_answered = message["about"].get("target", "") == "godot"
	elif not _answered:
		return true  # in a form that was not asked for
	elif kind == Records.TOPOLOGY:
		topology = message
		fresh = true
		frame = null
		status = "live: %s, %d vertices" % [message["name"] if message["name"] != "" else "head", message["vertices"]]
	elif kind == Records.FRAME:
		frame = message
		received += 1
	return true
