# The connection to the gateway: poll() each frame; keeps the newest head, nothing older; comes back by itself. Godot 3.
extends Reference

const Line = preload("line.gd")
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
var tls = false  # whether the gateway speaks TLS
var certificate = ""  # PEM file of the gateway's certificate, if the system does not trust it anyway

var _host
var _port
var _token
var _line = null
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
	if _line == null:
		if now_ms >= _next_ms:
			_connect(now_ms)
		return
	var state = _line.poll()
	if state == Line.OPEN:
		if not _asked:
			_ask()
		_receive(now_ms)
	elif state == Line.CLOSED or now_ms - _heard_ms > CONNECT_MS:
		_nobody(now_ms)


func close():
	if _line != null:
		_line.close()
	_line = null
	status = "not connected"


func _connect(now_ms):
	_reader = Records.new()
	_asked = false
	_answered = false
	_heard_ms = now_ms
	_line = Line.new()
	_line.open(_host, _port, tls, certificate)


func _nobody(now_ms):
	if _asked:
		_reader.close()
		_give_up(_reader.error if _reader.fault != "" else "the server hung up; connecting again", now_ms, RETRY_MS)
	elif _line.trouble != "":
		_give_up(_line.trouble, now_ms, REFUSED_MS)
	else:
		var where = _host if _host.begins_with("ws") else "%s:%d" % [_host, _port]
		_give_up("nobody answers at %s; is `mien serve` running?" % where, now_ms, RETRY_MS)


func _ask():
	var asked = {"target": "godot", "split": true, "normals": true}
	if _token != "":
		asked["token"] = _token
	_line.send(Records.encode_request(asked))
	_asked = true
	status = "connected; waiting for a head"


func _give_up(why, now_ms, pause_ms):
	close()
	status = why
	frame = null
	_next_ms = now_ms + pause_ms


func _receive(now_ms):
	var data = _line.receive()
	if data == null:
		_nobody(now_ms)
		return
	if data.size() > 0:
		_heard_ms = now_ms
		_reader.feed(data)
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
