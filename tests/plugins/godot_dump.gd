# Under Godot 3: dump STEP FILE... prints what the decoder reads; live HOST PORT [TOKEN PEM] prints what the head of sample.tscn shows, until killed;
# picture PORT PNG saves what its camera sees; ages PORT SECONDS FPS prints how old heads were when they were applied, ms.
# Arrays are printed as base64 of their bytes: the test makes of them the digits of tests/plugins/golden.py.
extends SceneTree

const Records = preload("res://addons/mien_live/records.gd")

var head = null
var said = ""
var shown = 0
var named = ""
var mode = ""
var path = ""
var begin_ms = 0
var seconds = 0.0
var ages = []


func _init():
	var words = Array(OS.get_cmdline_args())
	words = words.slice(words.find("--do") + 1, words.size() - 1)
	mode = words[0]
	if mode != "dump":
		var sample = load("res://sample.tscn").instance()
		head = sample.get_node("Head")
		if mode == "live":
			Engine.target_fps = 120
			head.host = words[1]
			head.token = words[3] if words.size() > 3 else ""
			head.tls = words.size() > 4
			head.certificate = words[4] if words.size() > 4 else ""
		elif mode == "ages":
			seconds = float(words[2])
			Engine.target_fps = int(words[3])
			OS.low_processor_usage_mode_sleep_usec = 1000  # without a window Godot sleeps 7 ms a turn
		else:
			path = words[2]
		head.port = int(words[2 if mode == "live" else 1])
		get_root().add_child(sample)
		return
	for k in range(2, words.size()):
		print("# ", words[k])
		dump(words[k], int(words[1]))
	quit()


func _idle(_delta):
	if head != null and head.client != null:
		if head.client.status != said:
			said = head.client.status
			print("status ", said)
		if head.applied != shown:
			shown = head.applied
			if mode == "ages":
				age()
			elif head.client.topology["name"] != named:
				named = head.client.topology["name"]
				tell()
			if mode == "picture" and shown > 20:
				var picture = get_root().get_texture().get_data()
				picture.flip_y()  # textures of viewports stand on their heads
				picture.save_png(path)
				quit()
	if mode == "ages" and begin_ms > 0 and OS.get_ticks_msec() - begin_ms > 1000 * seconds:
		quit()
	return false


# Not of the first: they fell into the making of the scene.
func age():
	var now = OS.get_system_time_msecs()
	if shown == 120:
		begin_ms = OS.get_ticks_msec()
	elif shown > 120:
		print("age ", now - 1000.0 * head.capture_time)


func tell():
	var arrays = head.mesh.surface_get_arrays(0)
	var text = "head " + named.replace(" ", "_")
	var blocks = {"vertices": arrays[0], "triangles": arrays[8], "normals": arrays[1], "source": head.client.topology["source"]}
	for name in blocks:
		var bytes = var2bytes(blocks[name])
		text += " %s=%s" % [name, bytes.subarray(8, bytes.size() - 1).hex_encode()]
	print(text, " jaw=", head.weight("jawOpen"))


func b64(array):
	if array == null:
		return "-"
	var bytes = var2bytes(array)
	return Marshalls.raw_to_base64(bytes.subarray(8, bytes.size() - 1)) if bytes.size() > 8 else ""


func line(m):
	match m["kind"]:
		Records.HELLO:
			var a = m["about"]
			var text = "hello %s %s %s %s" % [a["target"], PoolStringArray(a["axes"]).join(","), a["unit"], a["winding"]]
			for name in ["mesh", "normals", "quantised", "split", "token"]:
				text += " %s=%d" % [name, int(a[name])]
			return text
		Records.HEALTH:
			return "health " + m["about"]["state"]
		Records.END:
			return "end " + m["text"]
		Records.TOPOLOGY:
			return "topology %08x %d triangles=i%s uv=f%s corners=i%s source=i%s units=%s name=%s" % [m["key"], m["vertices"], b64(m["triangles"]), b64(m["uv"]), b64(m["corners"]), b64(m["source"]), PoolStringArray(m["units"]).join(","), m["name"]]
	var time = StreamPeerBuffer.new()
	time.put_double(m["time"])
	var begin = "%s %d %08x %s" % ["frame" if m["kind"] == Records.FRAME else "weights", m["sequence"], m["key"], Marshalls.raw_to_base64(time.data_array)]
	var rest = " pose=f%s weights=f%s" % [b64(m["pose"]), b64(m["weights"])]
	if m["kind"] != Records.FRAME:
		return begin + rest
	return begin + " positions=f" + b64(m["positions"]) + rest + " normals=f" + b64(m["normals"])


func dump(path, step):
	var file = File.new()
	file.open(path, File.READ)
	var stream = file.get_buffer(file.get_len())
	var reader = Records.new()
	var at = 0
	while at < stream.size() and reader.fault == "":
		reader.feed(stream.subarray(at, int(min(at + step, stream.size())) - 1))
		at += step
		var message = reader.next()
		while message != null:
			print(line(message))
			message = reader.next()
	reader.close()
	if reader.fault != "":
		print("error ", reader.fault)
		print("said ", reader.error)
