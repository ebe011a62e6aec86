// Prints what the C# decoder reads in streams, in the form of tests/plugins/golden.py: dump STEP FILE...; fuzz ROUNDS FILE...;
// garbage 0 FILE.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Mien;

public static class Program
{
    private static readonly StreamWriter Out = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)) { NewLine = "\n", AutoFlush = true };

    private static string Hex(byte[] bytes) { return string.Concat(bytes.Select(b => b.ToString("x2"))); }

    private static string Hex(float[] values, int count, bool there)
    {
        if (!there) return "-";
        return Hex(values.Take(count).SelectMany(v => BitConverter.GetBytes(v == 0 ? 0f : v)).ToArray()); // -0 as 0
    }

    private static string Hex(int[] values) { return values == null ? "-" : Hex(values.SelectMany(v => BitConverter.GetBytes(v)).ToArray()); }

    private static string Line(Message message)
    {
        Topology t = message.Topology;
        Frame f = message.Frame;
        switch (message.Kind)
        {
            case Kind.Hello:
                var about = message.About;
                var switches = new[] { "mesh", "normals", "quantised", "split", "token" }.Select(n => n + "=" + (true.Equals(about[n]) ? 1 : 0));
                return "hello " + about["target"] + " " + string.Join(",", (List<object>)about["axes"]) + " " + about["unit"] + " " + about["winding"] + " " + string.Join(" ", switches);
            case Kind.Health: return "health " + message.About["state"];
            case Kind.End: return "end " + message.Text;
            case Kind.Topology:
                return string.Format("topology {0:x8} {1} triangles={2} uv={3} corners={4} source={5} units={6} name={7}", t.Key, t.Vertices, Hex(t.Triangles),
                    Hex(t.Uv, t.Uv == null ? 0 : t.Uv.Length, t.Uv != null), Hex(t.Corners), Hex(t.Source), string.Join(",", t.Units), t.Name);
            default:
                bool mesh = message.Kind == Kind.Frame;
                return string.Format("{0} {1} {2:x8} {3} ", mesh ? "frame" : "weights", f.Sequence, f.Key, Hex(BitConverter.GetBytes(f.CaptureTime))) +
                    (mesh ? "positions=" + Hex(f.Positions, 3 * f.Vertices, true) + " " : "") + "pose=" + Hex(f.Pose, 16, f.HasPose) + " weights=" +
                    Hex(f.Weights, f.WeightCount, f.HasWeights) + (mesh ? " normals=" + Hex(f.Normals, 3 * f.Vertices, f.HasNormals) : "");
        }
    }

    private static int Survive(byte[] data, int step, bool print)
    {
        var reader = new Reader();
        var message = new Message();
        int read = 0;
        try
        {
            for (int at = 0; at < data.Length; at += step)
            {
                reader.Feed(data, at, Math.Min(step, data.Length - at));
                for (; reader.Next(message); read++)
                {
                    if (print) Out.WriteLine(Line(message));
                }
            }
            reader.Close();
        }
        catch (RecordException error)
        {
            if (print) Out.WriteLine("error " + error.Fault.ToString().ToLowerInvariant() + "\nsaid " + error.Message);
        }
        return read;
    }

    private static void Fuzz(int rounds, byte[][] streams)
    {
        int read = 0, cuts = 0;
        foreach (byte[] stream in streams)
        {
            for (int size = 0; size < stream.Length; size += stream.Length > 4000 ? 97 : 13, cuts++) read += Survive(stream.Take(size).ToArray(), 1 << 20, false);
        }
        var random = new Random(5);
        uint[] edges = { 0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x55555556, 0x15555556, 1u << 26 };
        for (int k = 0; k < rounds; k++)
        {
            byte[] data = (byte[])streams[k % streams.Length].Clone();
            for (int n = random.Next(1, 5); n > 0 && data.Length > 4; n--)
            {
                int at = random.Next(data.Length - 4);
                if (random.Next(2) == 0) data[at] = (byte)random.Next(256);
                else Buffer.BlockCopy(BitConverter.GetBytes(edges[random.Next(8)]), 0, data, at, 4);
            }
            read += Survive(data, 1 << 20, false);
        }
        Out.WriteLine(cuts + " truncations, " + rounds + " mutations, " + read + " messages read");
    }

    /// <summary>Bytes that the collector hands out while frames are read: none, once the first are read.</summary>
    private static void Garbage(byte[] stream)
    {
        var reader = new Reader();
        var message = new Message();
        var records = new List<byte[]>();
        for (int at = 0; at < stream.Length;)
        {
            int size = BitConverter.ToUInt16(stream, at + 6) + BitConverter.ToInt32(stream, at + 28);
            records.Add(stream.Skip(at).Take(size).ToArray());
            at += size;
        }
        foreach (byte[] record in records.Take(2)) { reader.Feed(record, 0, record.Length); reader.Next(message); }
        byte[] frame = records[2];
        for (int k = 0; k < 10; k++) { reader.Feed(frame, 0, frame.Length); reader.Next(message); }
        int before = GC.CollectionCount(0);
        for (int k = 0; k < 200000; k++) { reader.Feed(frame, 0, frame.Length); reader.Next(message); }
        Out.WriteLine("collections " + (GC.CollectionCount(0) - before));
    }

    public static int Main(string[] words)
    {
        byte[][] streams = words.Skip(2).Select(File.ReadAllBytes).ToArray();
        if (words[0] == "fuzz") Fuzz(int.Parse(words[1]), streams);
        if (words[0] == "garbage") Garbage(streams[0]);
        for (int k = 0; k < streams.Length && words[0] == "dump"; k++)
        {
            Out.WriteLine("# " + words[k + 2]);
            Survive(streams[k], int.Parse(words[1]), true);
        }
        return 0;
    }
}
