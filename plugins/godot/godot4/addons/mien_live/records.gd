# Mien's records (docs/gateway.md, version 1): bytes of the gateway to arrays. Godot 4. Every length is checked before it is
# used; arrays are made by the engine from whole blocks, never number by number. One reader per connection.
extends RefCounted

const HEADER = 32
const MAX_PAYLOAD = 1 << 26
const HELLO = 0
const TOPOLOGY = 1
const FRAME = 2
const WEIGHTS = 3
const HEALTH = 4
const REQUEST = 8
const END = 9
# types of Variant, with which the engine reads a block
const INTS = TYPE_PACKED_INT32_ARRAY
const REALS = TYPE_PACKED_FLOAT32_ARRAY
const VECTORS2 = TYPE_PACKED_VECTOR2_ARRAY
const VECTORS3 = TYPE_PACKED_VECTOR3_ARRAY

var fault = ""  # "newer", "foreign", "damaged", "incomplete"; empty while all is well
var error = ""  # for people: what is wrong and what to do
var _buffer = PackedByteArray()
var _known = false
var _key = 0
var _vertices = 0
# the record being read
var _data = PackedByteArray()
var _at = 0


# A request: keys as in docs/gateway.md.
static func encode_request(asked):
	var text = JSON.stringify(asked).to_utf8_buffer()
	var record = StreamPeerBuffer.new()
	record.put_data("HCM1".to_ascii_buffer())
	record.put_u8(REQUEST)
	record.put_u8(0)
	record.put_u16(HEADER)
	for _k in range(5):
		record.put_u32(0)
	record.put_u32(text.size())
	record.put_data(text)
	return record.data_array


func feed(data):
	_buffer.append_array(data)


# The next message, or null: more bytes are needed, or something is wrong (see `fault`).
func next():
	while fault == "":
		var size = _record_size(_buffer)
		if size == 0 or _buffer.size() < size:
			return null
		var record = _buffer.slice(0, size)
		_buffer = _buffer.slice(size)
		var message = _read(record)
		if fault != "":
			return null
		if message != null:  # else a kind of a later version
			return message
	return null


# Says that the stream has ended.
func close():
	if fault == "" and _buffer.size() > 0:
		_fail("incomplete", "the stream ended inside a record")


func _fail(what, why):
	if fault == "":
		fault = what
		error = why


func _damaged(why):
	_fail("damaged", why)


# Bytes of the record at the start; 0 while its header is not whole or if it is none.
func _record_size(data):
	var magic = [0x48, 0x43, 0x4d, 0x31]
	for k in range(mini(4, data.size())):
		if data[k] != magic[k]:
			if k == 3:
				_fail("newer", "the server speaks another version: use the add-on that came with your Mien")
			else:
				_fail("foreign", "what answers there is not Mien; the port is serve.tcp_port, 5750 by default")
			return 0
	if data.size() < HEADER:
		return 0
	var begin = data[6] | data[7] << 8
	var payload = data[28] | data[29] << 8 | data[30] << 16 | data[31] << 24
	if begin < HEADER or begin % 8 != 0 or payload > MAX_PAYLOAD:
		_damaged("a record of %d + %d bytes cannot be" % [begin, payload])
		return 0
	return begin + payload


func _read(record):
	var header = StreamPeerBuffer.new()
	header.data_array = record.slice(0, HEADER)
	header.seek(4)
	var kind = header.get_u8()
	var flags = header.get_u8()
	_at = header.get_u16()
	_data = record
	var told = {"kind": kind, "sequence": header.get_u32(), "key": header.get_u32(), "time": header.get_double()}
	var vertices = header.get_u32()
	if kind == HELLO or kind == HEALTH:
		_known = _known and kind != HELLO
		told["about"] = _json(_left())
	elif kind == END:
		told["text"] = _text(_left())
	elif kind == TOPOLOGY:
		_read_topology(told, flags, vertices)
	elif kind == FRAME or kind == WEIGHTS:
		_read_frame(told, flags, vertices if kind == FRAME else 0)
	else:
		return null
	return told


func _read_topology(told, flags, vertices):
	var triangles = _count()
	told["vertices"] = vertices
	told["triangles"] = _within(_array(INTS, 3 * triangles, 4), vertices)
	told["uv"] = null
	told["corners"] = null
	told["source"] = null
	told["name"] = ""
	told["units"] = []
	if flags & 1:
		var points = _count()
		told["uv"] = _array(VECTORS2, points, 8)
		told["corners"] = _within(_array(INTS, 3 * triangles, 4), points)
	if flags & 2:
		var size = _count()
		var names = _json(size)
		_take((4 - size % 4) % 4)
		told["name"] = names.get("name", "")
		told["units"] = names.get("units", [])
		if typeof(told["name"]) != TYPE_STRING or typeof(told["units"]) != TYPE_ARRAY:
			_damaged("the names of a topology are no names")
	if flags & 4:
		told["source"] = _array(INTS, vertices, 4)
	_end(flags, 7)
	_known = fault == ""
	_key = told["key"]
	_vertices = vertices


func _read_frame(told, flags, vertices):
	if not _known or told["key"] != _key or (told["kind"] == FRAME and vertices != _vertices):
		_damaged("a frame came before its topology; connecting again helps")
		return
	var small = (flags & 8) != 0 and told["kind"] == FRAME
	told["positions"] = _quantised(vertices) if small else _array(VECTORS3, vertices, 12)
	told["pose"] = _array(REALS, 16, 4) if flags & 1 else null
	told["weights"] = _array(REALS, _count(), 4) if flags & 2 else null
	told["normals"] = null
	if flags & 4:
		told["normals"] = _small_normals(vertices) if flags & 8 else _array(VECTORS3, vertices, 12)
	_end(flags, 15)
	var sum = Vector3()  # a number that is none stays in it
	for point in told["positions"]:
		sum += point
	if is_nan(sum.x + sum.y + sum.z) or is_inf(sum.x + sum.y + sum.z):
		_damaged("a frame holds positions that are no numbers")


# Computed in double, rounded once: every reader has the same bits.
func _quantised(vertices):
	var positions = PackedVector3Array()
	var box = StreamPeerBuffer.new()
	box.data_array = _take(24)
	var numbers = StreamPeerBuffer.new()
	numbers.data_array = _take(6 * vertices)
	_take((4 - 6 * vertices % 4) % 4)
	if fault != "":
		return positions
	var b = []
	for _k in range(6):
		b.append(box.get_float())
	positions.resize(vertices)
	for k in range(vertices):
		var x = b[0] + numbers.get_u16() * b[3]
		var y = b[1] + numbers.get_u16() * b[4]
		positions[k] = Vector3(x, y, b[2] + numbers.get_u16() * b[5])
	return positions


func _small_normals(vertices):
	var normals = PackedVector3Array()
	var numbers = StreamPeerBuffer.new()
	numbers.data_array = _take(3 * vertices)
	_take((4 - 3 * vertices % 4) % 4)
	if fault != "":
		return normals
	normals.resize(vertices)
	for k in range(vertices):
		var x = numbers.get_8() / 127.0
		var y = numbers.get_8() / 127.0
		normals[k] = Vector3(x, y, numbers.get_8() / 127.0)
	return normals


func _left():
	return _data.size() - _at


func _take(count):
	if fault != "" or count > _left():
		_damaged("a record is cut short: %d bytes needed, %d left" % [count, _left()])
		return PackedByteArray()
	_at += count
	return _data.slice(_at - count, _at)


func _count():
	var bytes = _take(4)
	return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24 if fault == "" else 0


# A block as the engine's own array: eight bytes that name type and length make it a Variant.
func _array(type, count, bytes_each):
	var block = _take(count * bytes_each)
	var variant = StreamPeerBuffer.new()
	variant.put_u32(type)
	variant.put_u32(count if fault == "" else 0)
	variant.put_data(block)
	return bytes_to_var(variant.data_array)


func _within(indices, count):
	for index in indices:
		if index < 0 or index >= count:
			_damaged("a triangle names number %d of %d" % [index, count])
			break
	return indices


func _text(count):
	var bytes = _take(count)
	var text = bytes.get_string_from_utf8()
	if text.to_utf8_buffer() != bytes:  # what is no UTF-8 was replaced in silence
		_damaged("text that is not UTF-8")
	return text


func _json(count):
	var parser = JSON.new()
	if parser.parse(_text(count)) != OK or typeof(parser.data) != TYPE_DICTIONARY:
		_damaged("text that is no JSON object")
		return {}
	return parser.data


func _end(flags, known):
	if fault == "" and _left() > 0 and not (flags & ~known):
		_damaged("a record has %d bytes too many" % _left())
