// The Unity package's MonoBehaviour on unity_stubs.cs: live PORT [TOKEN PEM] turns its Update until it is killed; prints its status and what its
// mesh holds after the first head of each topology.
using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;
using System.Threading;
using Mien;
using UnityEngine;

public static class Program
{
    private const BindingFlags Hidden = BindingFlags.Instance | BindingFlags.NonPublic;
    private static readonly StreamWriter Out = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)) { NewLine = "\n", AutoFlush = true };

    private static void Set(MienHead head, string field, object value) { typeof(MienHead).GetField(field, Hidden).SetValue(head, value); }
    private static object Get(MienHead head, string field) { return typeof(MienHead).GetField(field, Hidden).GetValue(head); }
    private static void Call(MienHead head, string message) { typeof(MienHead).GetMethod(message, Hidden).Invoke(head, null); }

    private static string Hex(Array values)
    {
        if (values == null) return "-"; // a stream without normals, without split
        var bytes = new byte[Buffer.ByteLength(values)];
        Buffer.BlockCopy(values, 0, bytes, 0, bytes.Length);
        return string.Concat(bytes.Select(b => b.ToString("x2")));
    }

    public static void Main(string[] words)
    {
        var character = new GameObject("Character").AddComponent<SkinnedMeshRenderer>();
        character.sharedMesh = new Mesh { Shapes = new[] { "smile", "JawOpen" } };
        var head = new GameObject("Mien Head").AddComponent<MienHead>();
        Set(head, "port", int.Parse(words[0]));
        Set(head, "character", character);
        head.Token = words.Length > 1 ? words[1] : "";
        Set(head, "tls", words.Length > 2);
        if (words.Length > 2) Set(head, "certificate", new TextAsset { text = File.ReadAllText(words[2]) });
        Call(head, "OnEnable");
        string said = "";
        Topology shown = null;
        for (;; Thread.Sleep(2))
        {
            int before = head.Applied;
            Call(head, "Update");
            if (head.Status != said) Out.WriteLine("status " + (said = head.Status));
            var topology = (Topology)Get(head, "_topology");
            if (head.Applied == before || topology == shown) continue;
            shown = topology;
            Mesh mesh = head.GetComponent<MeshFilter>().sharedMesh;
            if (mesh.GetSubMesh(0).indexCount != mesh.Indices.Length) throw new InvalidOperationException("not all triangles are drawn");
            if (character.Weights.Count != 1 || Math.Abs(character.Weights[1] - 100f * head.Weight("jawOpen")) > 1e-3f) throw new InvalidOperationException("JawOpen does not follow");
            Out.WriteLine("head {0} vertices={1} normals={2} triangles={3} source={4} jaw={5}", shown.Name.Replace(' ', '_'), Hex(mesh.Streams[0]),
                Hex(mesh.Streams[1]), Hex(mesh.Indices), Hex(shown.Source), head.Weight("jawOpen").ToString(System.Globalization.CultureInfo.InvariantCulture));
        }
    }
}
