# The main scene of a Godot 4 in a browser: `dump STEP FILE...` prints what the decoder reads, `live ADDRESS [TOKEN]` what the head of sample.tscn shows.
# Arrays are printed as base64 of their bytes: the test makes of them the digits of tests/plugins/golden.py.
extends Node

const Records = preload("res://addons/mien_live/records.gd")

var head = null
var said = ""
var shown = 0
var named = ""
var ages = []


func _ready():
	var words = OS.get_cmdline_user_args()
	if words[0] == "live":
		var sample = load("res://sample.tscn").instantiate()
		head = sample.get_node("Head")
		head.host = words[1]
		head.token = words[2] if words.size() > 2 else ""
		add_child(sample)
		return
	for k in range(2, words.size()):
		print("# ", words[k])
		dump("res://golden/" + words[k], int(words[1]))
	print("done")


func _process(_delta):
	if head == null or head.client == null:
		return
	if head.client.status != said:
		said = head.client.status
		print("status ", said)
	if head.applied != shown:
		shown = head.applied
		ages.append(1000.0 * (Time.get_unix_time_from_system() - head.capture_time))
		if head.client.topology["name"] != named:
			named = head.client.topology["name"]
			tell()
		JavaScriptBridge.eval("godot.applied = %d; godot.ages.push(%f)" % [shown, ages.pop_back()])


func tell():
	var arrays = head.mesh.surface_get_arrays(0)
	var text = "head " + named.replace(" ", "_")
	var blocks = {"vertices": arrays[0], "triangles": arrays[12], "normals": arrays[1], "source": head.client.topology["source"]}
	for name in blocks:
		var bytes = var_to_bytes(blocks[name])
		text += " %s=%s" % [name, bytes.slice(8).hex_encode()]
	print(text, " jaw=", head.weight("jawOpen"))


func b64(array):
	if array == null:
		return "-"
	var bytes = var_to_bytes(array)
	return Marshalls.raw_to_base64(bytes.slice(8)) if bytes.size() > 8 else ""


func line(m):
	match m["kind"]:
		Records.HELLO:
			var a = m["about"]
			var text = "hello %s %s %s %s" % [a["target"], ",".join(PackedStringArray(a["axes"])), a["unit"], a["winding"]]
			for name in ["mesh", "normals", "quantised", "split", "token"]:
				text += " %s=%d" % [name, int(a[name])]
			return text
		Records.HEALTH:
			return "health " + m["about"]["state"]
		Records.END:
			return "end " + m["text"]
		Records.TOPOLOGY:
			return "topology %08x %d triangles=i%s uv=f%s corners=i%s source=i%s units=%s name=%s" % [m["key"], m["vertices"], b64(m["triangles"]), b64(m["uv"]), b64(m["corners"]), b64(m["source"]), ",".join(PackedStringArray(m["units"])), m["name"]]
	var time = StreamPeerBuffer.new()
	time.put_double(m["time"])
	var begin = "%s %d %08x %s" % ["frame" if m["kind"] == Records.FRAME else "weights", m["sequence"], m["key"], Marshalls.raw_to_base64(time.data_array)]
	var rest = " pose=f%s weights=f%s" % [b64(m["pose"]), b64(m["weights"])]
	if m["kind"] != Records.FRAME:
		return begin + rest
	return begin + " positions=f" + b64(m["positions"]) + rest + " normals=f" + b64(m["normals"])


func dump(path, step):
	var stream = FileAccess.get_file_as_bytes(path)
	var reader = Records.new()
	var at = 0
	while at < stream.size() and reader.fault == "":
		reader.feed(stream.slice(at, at + step))
		at += step
		var message = reader.next()
		while message != null:
			print(line(message))
			message = reader.next()
	reader.close()
	if reader.fault != "":
		print("error ", reader.fault)
		print("said ", reader.error)
