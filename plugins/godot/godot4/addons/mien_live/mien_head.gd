# The live head as a mesh: metres, +Y up, face along +Z, relative to this node. Godot 4, not run by us.
extends MeshInstance3D

const Client = preload("client.gd")

@export var host = "127.0.0.1"
@export var port = 5750
var token = ""  # what stands in the file of serve.token_file, if the gateway asks for one; set before the node is ready
var client = null
var applied = 0  # heads that reached the mesh
var _arrays = []
var _weights = null
var _units = []


func _ready():
	client = Client.new(host, port, token)
	mesh = ArrayMesh.new()


func _exit_tree():
	client.close()


func _process(_delta):
	client.poll(Time.get_ticks_msec())
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
	_arrays.resize(Mesh.ARRAY_MAX)
	_arrays[Mesh.ARRAY_INDEX] = topology["triangles"]  # clockwise already, as Godot wants them
	_units = topology["units"]
	_weights = null
	if topology["uv"] != null and topology["uv"].size() == topology["vertices"]:  # split: coordinate k is that of vertex k
		var uv = topology["uv"]
		for k in range(uv.size()):
			uv[k] = Vector2(uv[k].x, 1.0 - uv[k].y)  # v down
		_arrays[Mesh.ARRAY_TEX_UV] = uv
	mesh.clear_surfaces()


func _follow(frame):
	_arrays[Mesh.ARRAY_VERTEX] = frame["positions"]
	_arrays[Mesh.ARRAY_NORMAL] = frame["normals"]
	_weights = frame["weights"]
	mesh.clear_surfaces()
	mesh.add_surface_from_arrays(Mesh.PRIMITIVE_TRIANGLES, _arrays)
	applied += 1
