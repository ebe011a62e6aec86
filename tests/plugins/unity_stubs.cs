// What MienHead and its sample use of Unity, as its documentation has it, so that Mono can compile and run them without Unity. It proves
// that they fit this file and put the right numbers into the buffers; what Unity does with them it does not prove.
using System;
using System.Collections.Generic;
using UnityEngine.Rendering;

namespace UnityEngine
{
    [AttributeUsage(AttributeTargets.Class)] public sealed class RequireComponent : Attribute { public RequireComponent(Type a, Type b) { } }
    [AttributeUsage(AttributeTargets.Class)] public sealed class AddComponentMenu : Attribute { public AddComponentMenu(string name) { } }
    [AttributeUsage(AttributeTargets.Field)] public sealed class TooltipAttribute : Attribute { public TooltipAttribute(string text) { } }
    [AttributeUsage(AttributeTargets.Field)] public sealed class SerializeField : Attribute { }
    [Flags] public enum HideFlags { None = 0, DontSave = 52 }

    public class Object
    {
        public string name = "";
        public HideFlags hideFlags;
        public static void Destroy(Object thing) { }
    }

    public class TextAsset : Object { public string text { get; set; } }
    public class Shader : Object { public static Shader Find(string name) { return new Shader(); } }
    public class Material : Object { public Material(Shader shader) { } }

    public class Component : Object
    {
        public GameObject gameObject;
        public Transform transform { get { return gameObject.GetComponent<Transform>(); } }
        public T GetComponent<T>() where T : Component { return gameObject.GetComponent<T>(); }
    }

    public class Behaviour : Component { }
    public class MonoBehaviour : Behaviour { }
    public class Transform : Component { public void SetParent(Transform parent, bool worldPositionStays) { } }
    public class Renderer : Component { public Material sharedMaterial; }
    public class MeshRenderer : Renderer { }
    public class MeshFilter : Component { public Mesh sharedMesh; }

    public class SkinnedMeshRenderer : Renderer
    {
        public Mesh sharedMesh;
        public readonly Dictionary<int, float> Weights = new Dictionary<int, float>();
        public void SetBlendShapeWeight(int index, float value) { Weights[index] = value; }
    }

    public sealed class GameObject : Object
    {
        private readonly List<Component> _parts = new List<Component>();
        public Transform transform { get { return GetComponent<Transform>(); } }

        public GameObject(string name)
        {
            this.name = name;
            AddComponent<Transform>();
        }

        public T AddComponent<T>() where T : Component, new()
        {
            var part = new T { gameObject = this };
            _parts.Add(part);
            if (part is Mien.MienHead) { AddComponent<MeshFilter>(); AddComponent<MeshRenderer>(); } // RequireComponent
            return part;
        }

        public T GetComponent<T>() where T : Component
        {
            foreach (Component part in _parts) { if (part is T) return (T)part; }
            return null;
        }
    }

    public struct Vector3
    {
        public float x, y, z;
        public Vector3(float x, float y, float z) { this.x = x; this.y = y; this.z = z; }
        public static Vector3 positiveInfinity { get { return new Vector3(float.PositiveInfinity, float.PositiveInfinity, float.PositiveInfinity); } }
        public static Vector3 negativeInfinity { get { return new Vector3(float.NegativeInfinity, float.NegativeInfinity, float.NegativeInfinity); } }
        public static Vector3 Min(Vector3 a, Vector3 b) { return new Vector3(Math.Min(a.x, b.x), Math.Min(a.y, b.y), Math.Min(a.z, b.z)); }
        public static Vector3 Max(Vector3 a, Vector3 b) { return new Vector3(Math.Max(a.x, b.x), Math.Max(a.y, b.y), Math.Max(a.z, b.z)); }
        public static Vector3 operator +(Vector3 a, Vector3 b) { return new Vector3(a.x + b.x, a.y + b.y, a.z + b.z); }
        public static Vector3 operator -(Vector3 a, Vector3 b) { return new Vector3(a.x - b.x, a.y - b.y, a.z - b.z); }
        public static Vector3 operator *(Vector3 a, float k) { return new Vector3(a.x * k, a.y * k, a.z * k); }
    }

    public struct Bounds
    {
        public Vector3 center, size;
        public Bounds(Vector3 center, Vector3 size) { this.center = center; this.size = size; }
    }

    /// <summary>Keeps what it is given; refuses what Unity would: data beyond a buffer, a stream that was not declared.</summary>
    public sealed class Mesh : Object
    {
        public readonly Array[] Streams = new Array[4];
        public int[] Indices = new int[0];
        public Bounds bounds;
        public int subMeshCount = 1;
        public string[] Shapes = new string[0];
        private VertexAttributeDescriptor[] _attributes = new VertexAttributeDescriptor[0];
        private int _vertices;
        private SubMeshDescriptor _part;

        public void MarkDynamic() { }
        public void Clear() { _vertices = 0; Indices = new int[0]; _part = new SubMeshDescriptor(); }
        public void SetVertexBufferParams(int count, params VertexAttributeDescriptor[] attributes) { _vertices = count; _attributes = attributes; }

        public void SetVertexBufferData<T>(T[] data, int from, int to, int count, int stream, MeshUpdateFlags flags) where T : struct
        {
            VertexAttributeDescriptor wanted = Array.Find(_attributes, a => a.Stream == stream);
            if (wanted.Dimension == 0 || to + count > wanted.Dimension * _vertices) throw new ArgumentOutOfRangeException("stream " + stream);
            if (Streams[stream] == null || Streams[stream].Length != wanted.Dimension * _vertices) Streams[stream] = new T[wanted.Dimension * _vertices];
            Array.Copy(data, from, Streams[stream], to, count);
        }

        public void SetIndexBufferParams(int count, IndexFormat format) { Indices = new int[count]; }
        public void SetIndexBufferData<T>(T[] data, int from, int to, int count, MeshUpdateFlags flags) where T : struct { Array.Copy(data, from, Indices, to, count); }
        public void SetSubMesh(int index, SubMeshDescriptor part, MeshUpdateFlags flags) { _part = part; }
        public SubMeshDescriptor GetSubMesh(int index) { return _part; }
        public int GetBlendShapeIndex(string name) { return Array.IndexOf(Shapes, name); }
    }

    public static class GUILayout { public static void Label(string text) { } }
}

namespace UnityEngine.Rendering
{
    public enum VertexAttribute { Position = 0, Normal = 1, TexCoord0 = 4 }
    public enum VertexAttributeFormat { Float32 = 0 }
    public enum IndexFormat { UInt16 = 0, UInt32 = 1 }
    [Flags] public enum MeshUpdateFlags { Default = 0, DontValidateIndices = 1, DontResetBoneBounds = 2, DontNotifyMeshUsers = 4, DontRecalculateBounds = 8 }

    public struct VertexAttributeDescriptor
    {
        public int Dimension, Stream;
        public VertexAttributeDescriptor(VertexAttribute attribute, VertexAttributeFormat format, int dimension, int stream)
        {
            Dimension = dimension;
            Stream = stream;
        }
    }

    public struct SubMeshDescriptor
    {
        public int indexStart, indexCount;
        public SubMeshDescriptor(int indexStart, int indexCount) { this.indexStart = indexStart; this.indexCount = indexCount; }
    }

    public class RenderPipelineAsset : Object { public Material defaultMaterial { get { return new Material(null); } } }
    public static class GraphicsSettings { public static RenderPipelineAsset currentRenderPipeline { get { return null; } } }
}
