// Mien's records (docs/gateway.md, version 1): bytes of the gateway to arrays. C# 7, no Unity types. Every length is checked
// before it is used; arrays are kept from message to message, so a stream of frames allocates nothing.
using System;
using System.Collections.Generic;
using System.Text;

namespace Mien
{
    public enum Fault { Newer, Foreign, Damaged, Incomplete }

    public enum Kind { Hello = 0, Topology = 1, Frame = 2, Weights = 3, Health = 4, Request = 8, End = 9 }

    /// <summary>The bytes are no record that this reader can read; the message says what to do.</summary>
    public sealed class RecordException : Exception
    {
        public readonly Fault Fault;

        public RecordException(Fault fault, string message) : base(message) { Fault = fault; }
    }

    public sealed class Topology
    {
        /// <summary>Number by which frames name it.</summary>
        public uint Key;
        public int Vertices;
        /// <summary>T x 3 indices of vertices.</summary>
        public int[] Triangles;
        /// <summary>C x 2 texture coordinates, v up; null without texture.</summary>
        public float[] Uv;
        /// <summary>T x 3 indices into Uv; null without texture.</summary>
        public int[] Corners;
        /// <summary>The vertex of Mien's topology that each one repeats; null unless `split` was asked for.</summary>
        public int[] Source;
        public string Name = "";
        /// <summary>Names of the weights.</summary>
        public string[] Units = new string[0];
    }

    /// <summary>A head; its arrays may be longer than what they hold, and are used again.</summary>
    public sealed class Frame
    {
        public uint Sequence, Key;
        /// <summary>Exposure time, s on the rig's clock.</summary>
        public double CaptureTime;
        /// <summary>Number of vertices; 0 in a record of weights.</summary>
        public int Vertices;
        public int WeightCount;
        public bool HasPose, HasWeights, HasNormals;
        /// <summary>3 numbers a vertex.</summary>
        public float[] Positions = new float[0];
        public float[] Normals = new float[0];
        public float[] Weights = new float[0];
        /// <summary>4 x 4, row by row, column vectors: world from head.</summary>
        public readonly float[] Pose = new float[16];
    }

    /// <summary>What a record held: of the fields, those of its kind are set.</summary>
    public sealed class Message
    {
        public Kind Kind;
        public Dictionary<string, object> About;
        public Topology Topology;
        public Frame Frame = new Frame();
        public string Text;
    }

    /// <summary>Reads one connection: Feed what came, then Next until it returns false. For a new connection a new reader.</summary>
    public sealed class Reader
    {
        public const int HeaderBytes = 32;
        public const int MaxPayload = 1 << 26;
        private static readonly UTF8Encoding Utf8 = new UTF8Encoding(false, true);

        private byte[] _buffer = new byte[1 << 16];
        private int _begin, _end;
        private bool _known;
        private uint _key;
        private int _vertices;

        // the record being read
        private byte[] _data;
        private int _at, _stop;

        /// <summary>A request: a JSON object, as in docs/gateway.md.</summary>
        public static byte[] EncodeRequest(string json)
        {
            byte[] text = Utf8.GetBytes(json);
            byte[] record = new byte[HeaderBytes + text.Length];
            Encoding.ASCII.GetBytes("HCM1", 0, 4, record, 0);
            record[4] = (byte)Kind.Request;
            record[6] = HeaderBytes;
            for (int k = 0; k < 4; k++) record[28 + k] = (byte)(text.Length >> (8 * k));
            Buffer.BlockCopy(text, 0, record, HeaderBytes, text.Length);
            return record;
        }

        public void Feed(byte[] data, int offset, int count)
        {
            if (_begin > 0)
            {
                Buffer.BlockCopy(_buffer, _begin, _buffer, 0, _end - _begin);
                _end -= _begin;
                _begin = 0;
            }
            if (_end + count > _buffer.Length) Array.Resize(ref _buffer, Math.Max(2 * _buffer.Length, _end + count));
            Buffer.BlockCopy(data, offset, _buffer, _end, count);
            _end += count;
        }

        /// <summary>Reads the next whole record into the message; false: more bytes are needed.</summary>
        public bool Next(Message message)
        {
            while (true)
            {
                int size = RecordSize(_buffer, _begin, _end - _begin);
                if (size == 0 || _end - _begin < size) return false;
                int at = _begin;
                _begin += size;
                if (Read(_buffer, at, size, message)) return true; // else a kind of a later version
            }
        }

        /// <summary>Says that the stream has ended.</summary>
        public void Close()
        {
            if (_begin != _end) throw new RecordException(Fault.Incomplete, "the stream ended inside a record");
        }

        /// <summary>Checks what is there of a header; returns the bytes of the record, 0 while its header is not whole.</summary>
        private static int RecordSize(byte[] data, int at, int there)
        {
            for (int k = 0; k < 4 && k < there; k++)
            {
                if (data[at + k] == "HCM1"[k]) continue;
                if (k == 3) throw new RecordException(Fault.Newer, "the server speaks another version: use the package that came with your Mien");
                throw new RecordException(Fault.Foreign, "what answers there is not Mien; the port is serve.tcp_port, 5750 by default");
            }
            if (there < HeaderBytes) return 0;
            int header = data[at + 6] | data[at + 7] << 8;
            uint payload = BitConverter.ToUInt32(data, at + 28);
            if (header < HeaderBytes || header % 8 != 0 || payload > MaxPayload) throw Damaged("a record of " + header + " + " + payload + " bytes cannot be");
            return header + (int)payload;
        }

        /// <summary>Reads one whole record (a WebSocket message); false: a kind of a later version.</summary>
        public bool Read(byte[] data, int offset, int size, Message message)
        {
            int told = RecordSize(data, offset, size);
            if (told != size) throw new RecordException(told == 0 ? Fault.Incomplete : Fault.Damaged, "a record is cut short");
            _data = data;
            _at = offset + (data[offset + 6] | data[offset + 7] << 8);
            _stop = offset + size;
            int flags = data[offset + 5];
            message.Kind = (Kind)data[offset + 4];
            switch (message.Kind)
            {
                case Kind.Hello:
                    _known = false;
                    message.About = Object(_stop - _at);
                    return true;
                case Kind.Health:
                    message.About = Object(_stop - _at);
                    return true;
                case Kind.End:
                    message.Text = ReadText(_stop - _at);
                    return true;
                case Kind.Topology:
                    message.Topology = ReadTopology(offset, flags);
                    return true;
                case Kind.Frame:
                case Kind.Weights:
                    ReadFrame(offset, flags, message.Kind == Kind.Frame, message.Frame);
                    return true;
                default:
                    return false;
            }
        }

        private Topology ReadTopology(int record, int flags)
        {
            var told = new Topology { Key = BitConverter.ToUInt32(_data, record + 12) };
            long vertices = BitConverter.ToUInt32(_data, record + 24);
            long triangles = Count();
            told.Triangles = Indices(3 * triangles, vertices);
            if ((flags & 1) != 0)
            {
                long points = Count();
                told.Uv = new float[Room(8 * points) / 4];
                Floats(told.Uv, told.Uv.Length);
                told.Corners = Indices(3 * triangles, points);
            }
            if ((flags & 2) != 0) ReadNames(told);
            if ((flags & 4) != 0) told.Source = Indices(vertices, 1L << 32);
            End(flags, 1 | 2 | 4);
            if (vertices > MaxPayload) throw Damaged("a topology of " + vertices + " vertices");
            told.Vertices = (int)vertices;
            _known = true;
            _key = told.Key;
            _vertices = told.Vertices;
            return told;
        }

        private void ReadNames(Topology told)
        {
            long size = Count();
            Dictionary<string, object> about = Object(size);
            Take((4 - size % 4) % 4);
            object name, units;
            if (about.TryGetValue("name", out name))
            {
                told.Name = name as string;
                if (told.Name == null) throw Damaged("the name of a topology is no text");
            }
            if (!about.TryGetValue("units", out units)) return;
            var list = units as List<object>;
            if (list == null || list.Exists(unit => !(unit is string))) throw Damaged("the units of a topology are no names");
            told.Units = list.ConvertAll(unit => (string)unit).ToArray();
        }

        private void ReadFrame(int record, int flags, bool mesh, Frame told)
        {
            long vertices = mesh ? BitConverter.ToUInt32(_data, record + 24) : 0;
            told.Key = BitConverter.ToUInt32(_data, record + 12);
            if (!_known || told.Key != _key || mesh && vertices != _vertices) throw Damaged("a frame came before its topology; connecting again helps");
            bool small = (flags & 8) != 0;
            told.Sequence = BitConverter.ToUInt32(_data, record + 8);
            told.CaptureTime = BitConverter.ToDouble(_data, record + 16);
            told.Vertices = (int)vertices;
            told.HasPose = (flags & 1) != 0;
            told.HasWeights = (flags & 2) != 0;
            told.HasNormals = (flags & 4) != 0;
            Grow(ref told.Positions, 3 * vertices, mesh && small ? 2 : 4);
            if (mesh && small) Dequantise(told.Positions, (int)vertices);
            else Floats(told.Positions, 3 * (int)vertices);
            if (told.HasPose) Floats(told.Pose, 16);
            long weights = told.HasWeights ? Count() : 0;
            Grow(ref told.Weights, weights, 4);
            Floats(told.Weights, (int)weights);
            told.WeightCount = (int)weights;
            if (told.HasNormals) ReadNormals(told, (int)vertices, small);
            End(flags, 1 | 2 | 4 | 8);
            for (int k = 0; k < 3 * told.Vertices; k++)
            {
                if (float.IsNaN(told.Positions[k]) || float.IsInfinity(told.Positions[k])) throw Damaged("a frame holds positions that are no numbers");
            }
        }

        /// <summary>Computed in double, rounded once: every reader has the same bits.</summary>
        private void Dequantise(float[] to, int vertices)
        {
            int box = Take(24), from = Take(6L * vertices);
            for (int axis = 0; axis < 3; axis++)
            {
                double minimum = BitConverter.ToSingle(_data, box + 4 * axis), step = BitConverter.ToSingle(_data, box + 12 + 4 * axis);
                for (int k = axis; k < 3 * vertices; k += 3)
                {
                    int q = _data[from + 2 * k] | _data[from + 2 * k + 1] << 8;
                    to[k] = (float)(minimum + q * step);
                }
            }
            Take((4 - 6L * vertices % 4) % 4);
        }

        private void ReadNormals(Frame told, int vertices, bool small)
        {
            Grow(ref told.Normals, 3L * vertices, small ? 1 : 4);
            if (!small)
            {
                Floats(told.Normals, 3 * vertices);
                return;
            }
            int from = Take(3L * vertices);
            for (int k = 0; k < 3 * vertices; k++) told.Normals[k] = (float)((sbyte)_data[from + k] / 127.0);
            Take((4 - 3L * vertices % 4) % 4);
        }

        private static RecordException Damaged(string message) { return new RecordException(Fault.Damaged, message); }

        /// <summary>Bytes that a block needs, if they are there.</summary>
        private int Room(long bytes)
        {
            if (bytes > _stop - _at) throw Damaged("a record is cut short: " + bytes + " bytes needed, " + (_stop - _at) + " left");
            return (int)bytes;
        }

        private int Take(long bytes)
        {
            int at = _at;
            _at += Room(bytes);
            return at;
        }

        private long Count() { return BitConverter.ToUInt32(_data, Take(4)); }

        /// <summary>Room for so many numbers, once it is sure that their bytes are there.</summary>
        private void Grow(ref float[] array, long count, int bytesEach)
        {
            Room(count * bytesEach);
            if (array.Length < count) array = new float[count];
        }

        private void Floats(float[] to, int count) { Buffer.BlockCopy(_data, Take(4L * count), to, 0, 4 * count); }

        private int[] Indices(long count, long limit)
        {
            var indices = new int[Room(4 * count) / 4];
            Buffer.BlockCopy(_data, Take(4 * count), indices, 0, 4 * indices.Length);
            foreach (int index in indices)
            {
                if ((uint)index >= limit) throw Damaged("a triangle names number " + (uint)index + " of " + limit);
            }
            return indices;
        }

        private string ReadText(long bytes)
        {
            int at = Take(bytes);
            try { return Utf8.GetString(_data, at, (int)bytes); }
            catch (ArgumentException) { throw Damaged("text that is not UTF-8"); }
        }

        private Dictionary<string, object> Object(long bytes)
        {
            var value = Json.Parse(ReadText(bytes)) as Dictionary<string, object>;
            if (value == null) throw Damaged("text that is no JSON object");
            return value;
        }

        private void End(int flags, int known)
        {
            if (_at != _stop && (flags & ~known) == 0) throw Damaged("a record has " + (_stop - _at) + " bytes too many");
        }
    }
}
