# The live head as a mesh: metres, +Y up, face along +Z, where the rig saw it relative to this node. Godot 3.
extends MeshInstance

const Client = preload("client.gd")

export var host = "127.0.0.1"
export var port = 5750
export var tls = false  # whether the gateway has serve.tls_certificate
export(String, FILE, "*.pem,*.crt") var certificate = ""  # PEM file of it, if the system does not trust it anyway
var token = ""  # what stands in the file of serve.token_file, if the gateway asks for one; set before the node is ready
var client = null
var applied = 0  # heads that reached the mesh
var capture_time = 0.0  # of the newest of them, s on the rig's clock
var _arrays = []
var _weights = null
var _units = []


func _ready():
	client = Client.new(host, port, token)
	client.tls = tls
	client.certificate = certificate
	mesh = ArrayMesh.new()


func _exit_tree():
	client.close()


func _process(_delta):
	client.poll(OS.get_ticks_msec())
	if client.fresh:
		client.fresh = false
		_build(client.topology)
	if client.frame != null:
		_follow(client.frame)
		client.frame = null


# An expression weight of the newest head in 0 to 1; 0 if there is none of this name.
func weight(unit):
	var index = _units.find(unit)
	return _weights[index] if index >= 0 and _weights != null and index < _weights.size() else 0.0


func _build(topology):
	_arrays = []
	_arrays.resize(ArrayMesh.ARRAY_MAX)
	_arrays[ArrayMesh.ARRAY_INDEX] = topology["triangles"]  # clockwise already, as Godot wants them
	_units = topology["units"]
	_weights = null
	if topology["uv"] != null and topology["uv"].size() == topology["vertices"]:  # split: coordinate k is that of vertex k
		var uv = topology["uv"]
		for k in range(uv.size()):
			uv[k] = Vector2(uv[k].x, 1.0 - uv[k].y)  # v down
		_arrays[ArrayMesh.ARRAY_TEX_UV] = uv
	while mesh.get_surface_count() > 0:
		mesh.surface_remove(0)


func _follow(frame):
	_arrays[ArrayMesh.ARRAY_VERTEX] = frame["positions"]
	_arrays[ArrayMesh.ARRAY_NORMAL] = frame["normals"]
	_weights = frame["weights"]
	while mesh.get_surface_count() > 0:
		mesh.surface_remove(0)
	mesh.add_surface_from_arrays(Mesh.PRIMITIVE_TRIANGLES, _arrays)
	capture_time = frame["time"]
	applied += 1
