using System;
using UnityEngine;
using UnityEngine.Rendering;

namespace Mien
{
    /// <summary>
    /// The live head as a mesh: metres, face along +Z, where the rig saw it relative to this object. The gateway turns it into
    /// Unity's space, so arrays go into the vertex buffers as they came; nothing is allocated while a topology lasts.
    /// </summary>
    [RequireComponent(typeof(MeshFilter), typeof(MeshRenderer))]
    [AddComponentMenu("Mien/Mien Head")]
    public sealed class MienHead : MonoBehaviour
    {
        private const MeshUpdateFlags Unchecked =
            MeshUpdateFlags.DontValidateIndices | MeshUpdateFlags.DontRecalculateBounds | MeshUpdateFlags.DontResetBoneBounds;

        [Tooltip("Where `mien serve` runs.")]
        [SerializeField] private string host = "127.0.0.1";
        [Tooltip("Its serve.tcp_port.")]
        [SerializeField] private int port = 5750;
        [Tooltip("Whether the gateway has serve.tls_certificate.")]
        [SerializeField] private bool tls = false;
        [Tooltip("That PEM file (named .txt), if this machine does not trust it anyway.")]
        [SerializeField] private TextAsset certificate = null;
        [Tooltip("A character whose blend shapes named as the weights (jawOpen) follow; may be empty.")]
        [SerializeField] private SkinnedMeshRenderer character = null;

        /// <summary>What stands in the file of its serve.token_file, if it asks for one; set before the object is enabled.</summary>
        [NonSerialized] public string Token = "";

        private MienClient _client;
        private Topology _topology;
        private Frame _frame = new Frame();
        private Mesh _mesh;
        private int[] _shapes = new int[0];

        /// <summary>Heads that reached the mesh.</summary>
        public int Applied { get; private set; }

        /// <summary>One line: what is going on, and what to do if nothing moves.</summary>
        public string Status { get { return _client == null ? "not connected" : _client.Status; } }

        /// <summary>An expression weight of the newest head in 0 to 1; 0 if there is none of this name.</summary>
        public float Weight(string unit)
        {
            int index = _topology == null ? -1 : Array.IndexOf(_topology.Units, unit);
            return index < 0 || index >= _frame.WeightCount ? 0f : _frame.Weights[index];
        }

        private void OnEnable()
        {
            _mesh = new Mesh { name = "Mien Head", hideFlags = HideFlags.DontSave };
            _mesh.MarkDynamic();
            GetComponent<MeshFilter>().sharedMesh = _mesh;
            _client = new MienClient(host, port, Token, true, tls, certificate == null ? "" : certificate.text);
        }

        private void OnDisable()
        {
            _client.Dispose();
            _client = null;
            Destroy(_mesh);
        }

        private void Update()
        {
            Topology topology = _client.TakeTopology();
            if (topology != null) Build(topology);
            if (_topology == null || !_client.TakeFrame(ref _frame) || _frame.Key != _topology.Key) return;
            if (_frame.Vertices == _topology.Vertices) Follow();
            for (int k = 0; k < _shapes.Length && k < _frame.WeightCount; k++)
            {
                if (_shapes[k] >= 0) character.SetBlendShapeWeight(_shapes[k], 100f * _frame.Weights[k]);
            }
        }

        private void Build(Topology topology)
        {
            _topology = topology;
            int count = topology.Vertices;
            _mesh.Clear();
            _mesh.SetVertexBufferParams(count,
                new VertexAttributeDescriptor(VertexAttribute.Position, VertexAttributeFormat.Float32, 3, 0),
                new VertexAttributeDescriptor(VertexAttribute.Normal, VertexAttributeFormat.Float32, 3, 1),
                new VertexAttributeDescriptor(VertexAttribute.TexCoord0, VertexAttributeFormat.Float32, 2, 2));
            if (topology.Uv != null && topology.Uv.Length == 2 * count) // split: coordinate k is that of vertex k, v up as in Unity
                _mesh.SetVertexBufferData(topology.Uv, 0, 0, topology.Uv.Length, 2, Unchecked);
            int indices = topology.Triangles.Length;
            _mesh.SetIndexBufferParams(indices, IndexFormat.UInt32);
            _mesh.SetIndexBufferData(topology.Triangles, 0, 0, indices, Unchecked);
            _mesh.subMeshCount = 1;
            _mesh.SetSubMesh(0, new SubMeshDescriptor(0, 0), Unchecked); // nothing is drawn until vertices are there
            _shapes = new int[character == null ? 0 : topology.Units.Length];
            for (int k = 0; k < _shapes.Length; k++) _shapes[k] = Shape(topology.Units[k]);
        }

        private int Shape(string unit)
        {
            int index = character.sharedMesh.GetBlendShapeIndex(unit);
            return index >= 0 ? index : character.sharedMesh.GetBlendShapeIndex(char.ToUpperInvariant(unit[0]) + unit.Substring(1));
        }

        private void Follow()
        {
            int numbers = 3 * _frame.Vertices;
            _mesh.SetVertexBufferData(_frame.Positions, 0, 0, numbers, 0, Unchecked);
            if (_frame.HasNormals) _mesh.SetVertexBufferData(_frame.Normals, 0, 0, numbers, 1, Unchecked);
            Vector3 low = Vector3.positiveInfinity, high = Vector3.negativeInfinity;
            for (int k = 0; k < numbers; k += 3)
            {
                var point = new Vector3(_frame.Positions[k], _frame.Positions[k + 1], _frame.Positions[k + 2]);
                low = Vector3.Min(low, point);
                high = Vector3.Max(high, point);
            }
            var bounds = new Bounds((low + high) * 0.5f, high - low);
            if (_mesh.GetSubMesh(0).indexCount == 0) _mesh.SetSubMesh(0, new SubMeshDescriptor(0, _topology.Triangles.Length), Unchecked);
            _mesh.bounds = bounds;
            Applied++;
        }
    }
}
